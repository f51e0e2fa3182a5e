-- Adds ranges of processed offsets. Ranges are kept sorted, as '0-500,900-1000' (the second number is
-- the offset after the last), and those that touch or overlap are merged.
--
-- KEYS  the hash of all partitions
-- ARGV  a partition, from, until; and so on
local function text(number)
  -- tostring would write large offsets as 1e+15.
  return string.format('%.0f', number)
end

for i = 1, #ARGV, 3 do
  local partition, from, till = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local before, after = {}, {}
  for a, b in string.gmatch(redis.call('HGET', KEYS[1], partition) or '', '(%d+)-(%d+)') do
    a, b = tonumber(a), tonumber(b)
    if b < from then
      before[#before + 1] = text(a) .. '-' .. text(b)
    elseif a > till then
      after[#after + 1] = text(a) .. '-' .. text(b)
    else
      from, till = math.min(from, a), math.max(till, b)
    end
  end
  before[#before + 1] = text(from) .. '-' .. text(till)
  for _, range in ipairs(after) do
    before[#before + 1] = range
  end
  redis.call('HSET', KEYS[1], partition, table.concat(before, ','))
end
return 1
