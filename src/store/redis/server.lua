-- Redis names each life of its memory: a server that was started anew, from whatever it had on its disk, has another
-- name than before, and so has a replica that took over. No key can tell: it would be lost, or copied, with the others.
local name_of_server
local function server()
  -- It stays while a script runs.
  name_of_server = name_of_server or string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
  return name_of_server
end

-- Whether the caller has adopted this server for the bucket, and the bucket was found whole on it.
local function is_confirmed(confirmation, adopted)
  return adopted ~= '' and redis.call('GET', confirmation) == adopted and server() == adopted
end

