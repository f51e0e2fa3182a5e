-- Counts what was granted out of a lease as spent and frees the rest, once. The lease stays by name until
-- its counts are removed from the buckets, so that they are found should the caller die before.
--
-- KEYS  the budget's hash, see lease.lua
-- ARGV  the lease's name, the points granted out of it in all buckets
local call = redis.call
local lease = call('HGET', KEYS[1], ARGV[1])
if lease and lease ~= 'ended' then
  call('HINCRBY', KEYS[1], 'settled', ARGV[2])
  call('HSET', KEYS[1], ARGV[1], 'ended')
end
return 1
