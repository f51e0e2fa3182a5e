-- Commits what a batch changes in buckets: of each bucket all of it or nothing, and every time the outbox entries
-- that are published go. Several buckets in one call cost Redis less than a call for each.
--
-- For each bucket, one after the other:
-- KEYS  the outbox; the bucket's confirmation; with receipts: the hashes of the generation before the claimed one, of the claimed
--       one and of the one after, the hash of receipts that never expire, and those of business keys of the
--       long generation before and of this one; with grants: the hash of
--       what was granted out of leases; with moments: the sorted set of when something falls due; then the accounts
-- ARGV  how many keys it has, seconds a generation, the generation claimed, and how many there are of published entries,
--       receipts, outbox entries, receipts that never expire, grants and moments, of receipts of business keys and
--       of those that are rewritten, generations a long one has, and the name of the server that is adopted; then
--       grants      each lease's field, the points, and the lease's deadline in milliseconds since 1970
--       moments     each member, and the second since 1970 at which something falls due next ('' for never)
--       published   each entry's field
--       receipts    each key, and after all keys each value
--       forever     the same of receipts that never expire; only where there are receipts
--       business    the same of business keys
--       records     the same of business keys whose receipts may exist, and are written all the same
--       outbox      each field with its value
--       accounts    for each of KEYS: the first bytes of the version expected ('' for no account)
--                   and the new account ('' where it stays as it is)
--
-- Returns for each bucket 1 if it is written, 0 if it is refused, 2 if it is refused only because a lease is past its
-- deadline, 3 if the bucket is not confirmed to be whole on the server adopted and nothing was done, {'generation', g} if g should have been claimed and nothing was done.
local call = redis.call
-- Lua's stack holds some 8,000 values: longer lists go in parts.
local CHUNK = 2000

-- Redis writes a number among a command's arguments by printf, which costs more than the command;
-- the versions of a bucket have few lengths.
local last_byte = {}
local function end_of(expected)
  local length = #expected
  local text = last_byte[length]
  if not text then
    -- An absent key reads as '', so one byte more than nothing tells whether there is an account.
    text = string.format('%d', math.max(length, 1) - 1)
    last_byte[length] = text
  end
  return text
end

-- Whether a hash has one of the fields that stand in ARGV from `first` until before `last`.
local function any(hash, first, last)
  -- In a deployment's first window there is no hash of the one before.
  if first == last or call('EXISTS', hash) == 0 then
    return false
  end
  for from = first, last - 1, CHUNK do
    local found = call('HMGET', hash, unpack(ARGV, from, math.min(from + CHUNK, last) - 1))
    for i = 1, #found do
      if found[i] then
        return true
      end
    end
  end
  return false
end

-- Writes fields and values, of which there are `many` in ARGV from `first` and from `values` on.
local function write(hash, first, values, many)
  for from = 0, many - 1, CHUNK / 2 do
    local fields_and_values, n = {}, 0
    for i = from, math.min(from + CHUNK / 2, many) - 1 do
      fields_and_values[n + 1] = ARGV[first + i]
      fields_and_values[n + 2] = ARGV[values + i]
      n = n + 2
    end
    call('HSET', hash, unpack(fields_and_values))
  end
end

-- Commits the bucket whose keys begin behind the first `k` and whose arguments behind the first `a`. Returns what became of it,
-- and the arguments behind which the next one's begin.
local function commit(k, a)
  local many, window, claimed = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local n_published, n_receipts, n_outbox = tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]), tonumber(ARGV[a + 6])
  local n_forever, n_grants, n_moments = tonumber(ARGV[a + 7]), tonumber(ARGV[a + 8]), tonumber(ARGV[a + 9])
  local n_business, n_records, long = tonumber(ARGV[a + 10]), tonumber(ARGV[a + 11]), tonumber(ARGV[a + 12])
  local adopted = ARGV[a + 13]
  local grants = a + 14
  local moments = grants + 3 * n_grants
  local published = moments + 2 * n_moments
  local receipts = published + n_published
  local values = receipts + n_receipts
  local forever = values + n_receipts
  local forever_values = forever + n_forever
  local business = forever_values + n_forever
  local business_values = business + n_business
  local records = business_values + n_business
  local record_values = records + n_records
  local fields = record_values + n_records
  local accounts = fields + 2 * n_outbox

  local outbox, confirmation = KEYS[k + 1], KEYS[k + 2]
  local account = k + 2
  local before, current, following, forever_hash, business_before, business_hash
  local has_receipts = n_receipts + n_forever + n_business + n_records > 0
  if has_receipts then
    before, current, following, forever_hash, business_before, business_hash = unpack(KEYS, account + 1, account + 6)
    account = account + 6
  end
  local granted, due
  if n_grants > 0 then
    account = account + 1
    granted = KEYS[account]
  end
  if n_moments > 0 then
    account = account + 1
    due = KEYS[account]
  end
  local n_accounts = k + many - account
  local next_bucket = accounts + 2 * n_accounts - 1

  if not is_confirmed(confirmation, adopted) then
    return 3, next_bucket
  end
  if has_receipts then
    local other = other_generation(window, claimed, current, following)
    if other then
      return { 'generation', other }, next_bucket
    end
  end

  -- Whether an account has another version than expected, or a receipt is there. Not MGET: in Lua a whole account is a copy
  -- that costs half as much again as the call that it saves.
  local function refused()
    for i = 1, n_accounts do
      local expected = ARGV[accounts + 2 * i - 2]
      if call('GETRANGE', KEYS[account + i], '0', end_of(expected)) ~= expected then
        return true
      end
    end
    return any(current, receipts, values)
      or any(before, receipts, values)
      or any(forever_hash, forever, forever_values)
      or any(business_hash, business, business_values)
      or any(business_before, business, business_values)
  end

  -- Whether a lease is past its deadline. It may be reclaimed some time after that, so nothing that is
  -- granted later may count.
  local function expired()
    if n_grants == 0 then
      return false
    end
    local time = call('TIME')
    local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    for i = grants, moments - 1, 3 do
      if now >= tonumber(ARGV[i + 2]) then
        return true
      end
    end
    return false
  end

  local function clear_published()
    for from = published, receipts - 1, CHUNK do
      call('HDEL', outbox, unpack(ARGV, from, math.min(from + CHUNK, receipts) - 1))
    end
  end

  -- A script that fails half-way stays half done. So every key is read before the first write, by a command
  -- that fails if the key is of another type (MGET and MSET would not mind). And the first write is one that
  -- a full server refuses: once a script has written something, here by clearing, Redis lets it go on beyond
  -- its memory.
  call('HLEN', outbox)
  if granted then
    call('HLEN', granted)
  end
  if due then
    call('ZCARD', due)
  end
  if refused() then
    clear_published()
    return 0, next_bucket
  end
  if expired() then
    clear_published()
    return 2, next_bucket
  end

  for i = grants, moments - 1, 3 do
    call('HINCRBY', granted, ARGV[i], ARGV[i + 1])
  end

  for i = moments, published - 1, 2 do
    if ARGV[i + 1] == '' then
      call('ZREM', due, ARGV[i])
    else
      call('ZADD', due, ARGV[i + 1], ARGV[i])
    end
  end

  -- One MSET costs a tenth less of the whole than a SET for each account.
  for from = 1, n_accounts, CHUNK / 2 do
    local keys_and_accounts, n = {}, 0
    for i = from, math.min(from + CHUNK / 2 - 1, n_accounts) do
      local json = ARGV[accounts + 2 * i - 1]
      if json ~= '' then
        keys_and_accounts[n + 1] = KEYS[account + i]
        keys_and_accounts[n + 2] = json
        n = n + 2
      end
    end
    if n > 0 then
      call('MSET', unpack(keys_and_accounts))
    end
  end

  write(current, receipts, values, n_receipts)
  write(forever_hash, forever, forever_values, n_forever)
  write(business_hash, business, business_values, n_business)
  write(business_hash, records, record_values, n_records)
  -- Looked at until the generation after it has ended; an hour more for clocks that differ.
  if n_receipts > 0 and call('TTL', current) < 0 then
    call('EXPIREAT', current, string.format('%.0f', (claimed + 2) * window + 3600))
  end
  if n_business + n_records > 0 and call('TTL', business_hash) < 0 then
    local generation = math.floor(claimed / long)
    call('EXPIREAT', business_hash, string.format('%.0f', (generation + 2) * long * window + 3600))
  end

  clear_published()
  for from = fields, accounts - 1, CHUNK do
    call('HSET', outbox, unpack(ARGV, from, math.min(from + CHUNK, accounts) - 1))
  end
  return 1, next_bucket
end

local outcomes, k, a = {}, 0, 0
while a < #ARGV do
  local many = tonumber(ARGV[a + 1])
  outcomes[#outcomes + 1], a = commit(k, a)
  k = k + many
end
return outcomes
