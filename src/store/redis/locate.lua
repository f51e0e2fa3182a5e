-- Tells where a bucket is.
--
-- KEYS  the bucket's confirmation
--
-- Returns the server's name and the name of the server that the bucket was last found whole on.
return { server(), redis.call('GET', KEYS[1]) }
