-- Has a bucket hold what it lacks of what was published. Where the receipt of an event is there, or an account of the
-- version or a later one, it stays as it is: so this may be repeated, and done by several at once.
--
-- KEYS  the hashes of receipts, as for commit.lua; that of what was granted; the sorted set of when something falls due;
--       then the accounts
-- ARGV  seconds a generation, the generation claimed, generations that a long one has, the server's name, and how many
--       events there are; then
--       events      each one's key and receipt; how many other receipts it left, and each one's key, value and kind: f for
--                   those that never expire, b for business keys, r for records that another event made and that it
--                   changed, where they are there; how many budgets it took of, and each one's field of what came back, and the points
--       accounts    for each of KEYS: the version, the account, and when something falls due ('' for never)
--
-- Returns the numbers of events and accounts that were not there, {'moved'} if the bucket is on another server and
-- nothing was done, {'generation', g} if g should have been claimed and nothing was done.
local call = redis.call
local window, claimed, long = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local before, current, following, forever, business_before, business = unpack(KEYS, 1, 6)
local granted, due, account = KEYS[7], KEYS[8], 8

local other = other_generation(window, claimed, current, following)
if other then
  return { 'generation', other }
end
if server() ~= ARGV[4] then
  return { 'moved' }
end

local at = 5
local function next_argument()
  at = at + 1
  return ARGV[at]
end

local some_business = false
local function keep_other(key, value, kind)
  if kind == 'f' then
    call('HSETNX', forever, key, value)
    return
  end
  local is_there = call('HEXISTS', business_before, key) == 1 or call('HEXISTS', business, key) == 1
  -- A record that was lost before it was published is made anew when its event is read again.
  if is_there == (kind == 'r') then
    call('HSET', business, key, value)
    some_business = true
  end
end

local events = 0
for _ = 1, tonumber(ARGV[5]) do
  local key, value = next_argument(), next_argument()
  local is_new = call('HEXISTS', before, key) == 0 and call('HSETNX', current, key, value) == 1
  events = events + (is_new and 1 or 0)
  for _ = 1, tonumber(next_argument()) do
    local other_key, other_value, kind = next_argument(), next_argument(), next_argument()
    if is_new then
      keep_other(other_key, other_value, kind)
    end
  end
  for _ = 1, tonumber(next_argument()) do
    local field, points = next_argument(), next_argument()
    if is_new then
      call('HINCRBY', granted, field, points)
    end
  end
end
-- See commit.lua.
if events > 0 and call('TTL', current) < 0 then
  call('EXPIREAT', current, string.format('%.0f', (claimed + 2) * window + 3600))
end
if some_business and call('TTL', business) < 0 then
  local generation = math.floor(claimed / long)
  call('EXPIREAT', business, string.format('%.0f', (generation + 2) * long * window + 3600))
end

local accounts = 0
for i = account + 1, #KEYS do
  local version, json, moment = next_argument(), next_argument(), next_argument()
  -- An account begins with its version: {"v":17,
  local held = string.match(call('GETRANGE', KEYS[i], '0', '25'), '^{"v":(%d+),')
  if tonumber(held or 0) < tonumber(version) then
    call('SET', KEYS[i], json)
    local member = string.match(KEYS[i], ':account:(.*)$')
    if moment == '' then
      call('ZREM', due, member)
    else
      call('ZADD', due, moment, member)
    end
    accounts = accounts + 1
  end
end
return { events, accounts }
