-- Ends one turn, whatever its claim looks like; put before finish.lua. Mirrors
-- shifter.policy.delivery.claim.decide_finish; returns whether the fence was the newest, and for
-- how long to keep it where the job was asked to stop and is cancelled by this end.
local function ended(key, ask, state, keep)
  local r = read(key)
  local fence, turn, attempt = string.match(ask, '^(%d+);(%d+);(%d+)$')
  if not r or r.f ~= tonumber(fence) then return false end
  local is_unclaimed = r.s == 'w' and r.f == 0 and r.t == 0 and state ~= 'w'
  if r.s ~= 'r' and r.s ~= 'q' and not is_unclaimed then
    return r.t == tonumber(turn) and (r.s == state or (r.s == 'c' and state == 'w'))
  end
  local stopped
  if r.s == 'q' and state == 'w' then
    state, stopped = 'c', math.max(tonumber(keep), r.c)
    keep = stopped
  end
  close(r, state)
  r.t, r.a = tonumber(turn), tonumber(attempt)
  write(key, r, keep)
  return true, stopped
end
