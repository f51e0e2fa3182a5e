-- Takes members for whom something has fallen due, the longest due first, and keeps them from others for a while.
--
-- KEYS  the sorted set of when something falls due
-- ARGV  how many at most, and for how many seconds they are kept
--
-- Returns the second since 1970 by Redis' clock, and after it the members.
local now = tonumber(redis.call('TIME')[1])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for i = 1, #due do
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), due[i])
end
table.insert(due, 1, now)
return due
