-- Writes down that a bucket is whole on a server.
--
-- KEYS  the bucket's confirmation
-- ARGV  the server's name
--
-- Returns 1, or 0 where the bucket is on another server by now.
if server() ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
