-- Reads accounts, receipts and, where it is wanted, the outbox of one bucket as they are at one moment.
--
-- KEYS  the outbox; the receipts' hashes of the generation before the claimed one, of the claimed one
--       and of the one after; the hash of receipts that never expire; those of business keys of the long generation
--       before and of this one; then the accounts
-- ARGV  seconds a generation, the generation claimed, 1 if the outbox is wanted; then each receipt's key
--
-- Returns {accounts, receipts, outbox as field and value by turns}, or {'generation', g} if g should
-- have been claimed.
local call = redis.call
local window, claimed = tonumber(ARGV[1]), tonumber(ARGV[2])
-- Lua's stack holds some 8,000 values: longer lists go in parts.
local CHUNK = 2000

local other = other_generation(window, claimed, KEYS[3], KEYS[4])
if other then
  return { 'generation', other }
end

local accounts = {}
for i = 8, #KEYS do
  -- Not MGET: that takes a key of another type for an absent one.
  accounts[i - 7] = call('GET', KEYS[i])
end

local receipts = {}
for from = 4, #ARGV, CHUNK do
  local last = math.min(from + CHUNK - 1, #ARGV)
  local newer = call('HMGET', KEYS[3], unpack(ARGV, from, last))
  local older = call('HMGET', KEYS[2], unpack(ARGV, from, last))
  local forever = call('HMGET', KEYS[5], unpack(ARGV, from, last))
  local business = call('HMGET', KEYS[7], unpack(ARGV, from, last))
  local business_before = call('HMGET', KEYS[6], unpack(ARGV, from, last))
  for i = 1, #newer do
    receipts[from - 4 + i] = newer[i] or older[i] or forever[i] or business[i] or business_before[i]
  end
end

return { accounts, receipts, ARGV[3] == '1' and call('HGETALL', KEYS[1]) or {} }
