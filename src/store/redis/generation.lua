-- Receipts live in one hash a generation, so that old ones expire as a whole. Generations are counted
-- by Redis' own clock: the workers' clocks may disagree. But a script must name its keys beforehand
-- (a cluster that is moving a slot checks them), so the worker claims a generation, and is told
-- where it is wrong.
--
-- Returns the right generation, or nil where the claim is right. `current` and `following` are the
-- hashes of the claimed generation and of the one after it.
local function other_generation(window, claimed, current, following)
  local clock = math.floor(tonumber(redis.call('TIME')[1]) / window)
  if claimed == clock then
    -- The clock was set back, or a replica with a slower one took over: what has begun goes on,
    -- or its receipts would not be looked at.
    if redis.call('EXISTS', following) == 1 then
      return clock + 1
    end
    return nil
  end
  if claimed == clock + 1 and redis.call('EXISTS', current) == 1 then
    return nil
  end
  return clock
end

