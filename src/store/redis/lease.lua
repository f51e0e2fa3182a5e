-- Leases points of a campaign's budget.
--
-- KEYS  the budget's hash: `settled`, the points granted out of leases that ended, and a field for each
--       lease: '<points> <deadline> <when it lapses>', both in milliseconds since 1970 by Redis' clock,
--       or 'ended' while its counts are being removed from the buckets
-- ARGV  the points of the whole budget, the lease's name, the points needed, the milliseconds that it
--       lives and those of grace after them, the divisor for the share of what is free, and 1 if leases
--       that lapsed are to be left as they are
--
-- Returns {points, deadline, points that are free after it}, or {'lapsed', leases that lapsed} where there
-- are some: then nothing was done, and they are to be ended first.
local call = redis.call
local budget = KEYS[1]
local total, lease, needed = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local life, grace, share, leave = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local free, lapsed, mine = total, { 'lapsed' }, nil
local fields = call('HGETALL', budget)
for i = 1, #fields, 2 do
  local field, value = fields[i], fields[i + 1]
  if field == 'settled' then
    free = free - tonumber(value)
  elseif value == 'ended' then
    lapsed[#lapsed + 1] = field
  else
    local points, deadline, lapses = string.match(value, '^(%d+) (%d+) (%d+)$')
    free = free - tonumber(points)
    if field == lease then
      mine = { tonumber(points), tonumber(deadline) }
    elseif now > tonumber(lapses) then
      lapsed[#lapsed + 1] = field
    end
  end
end

if mine then
  return { mine[1], mine[2], math.max(free, 0) }
end
if #lapsed > 1 and not leave then
  return lapsed
end
free = math.max(free, 0)
local points = math.min(free, math.max(needed, math.floor(free / share)))
local deadline = now + life
if points > 0 then
  -- tostring would write large numbers as 1e+15.
  call('HSET', budget, lease, string.format('%.0f %.0f %.0f', points, deadline, deadline + grace))
end
return { points, deadline, free - points }
