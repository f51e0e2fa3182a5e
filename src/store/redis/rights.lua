-- KEYS: a string, a hash and a sorted set of this check's own, which are gone when it ends.
-- Calls every command that accrual calls inside a script or by itself, and answers with the names of those that the
-- user may not call.
local missing, failed = {}, nil
local function try(command, ...)
  local answer = redis.pcall(command, ...)
  if type(answer) == 'table' and answer.err then
    if string.find(answer.err, 'The user executing the script', 1, true) then
      missing[#missing + 1] = string.lower(command)
    else
      failed = answer
    end
  end
end
local text, hash, sorted = KEYS[1], KEYS[2], KEYS[3]

try('TIME')
try('INFO', 'replication')
try('SET', text, 'x')
try('MSET', text, 'x')
try('GET', text)
try('MGET', text)
try('GETRANGE', text, 0, 0)
try('EXISTS', text)
try('TTL', text)
-- In the past: this removes it.
try('EXPIREAT', text, 1)

try('HSET', hash, 'f', 1)
try('HSETNX', hash, 'f', 1)
try('HINCRBY', hash, 'f', 1)
try('HGET', hash, 'f')
try('HMGET', hash, 'f')
try('HGETALL', hash)
try('HKEYS', hash)
try('HLEN', hash)
try('HSCAN', hash, 0)
try('SCAN', 0)
try('HEXISTS', hash, 'f')
try('HDEL', hash, 'f')

try('ZADD', sorted, 1, 'm')
try('ZCARD', sorted)
try('ZRANGEBYSCORE', sorted, 0, 1)
try('ZMSCORE', sorted, 'm')
try('ZREM', sorted, 'm')

return failed or missing
