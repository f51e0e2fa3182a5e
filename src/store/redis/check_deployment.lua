-- Writes down what the deployment was made with, where that is not known yet, and returns what is known.
--
-- KEYS  the hash of the deployment
-- ARGV  a field, its value; and so on
local known = {}
for i = 1, #ARGV, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
  known[#known + 1] = redis.call('HGET', KEYS[1], ARGV[i])
end
return known
