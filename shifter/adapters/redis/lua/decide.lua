-- Answers a worker that wants to run a turn of a job whose claim exists. Put before
-- claim.lua; mirrors shifter.policy.delivery.claim.decide_claim, and writes all but grants.
-- Returns code, a, b as claim.lua lists them.
local function running(key, r, turn, unanswered)
  local lost = string.find(unanswered, ' ' .. string.match(r.who, '^%S*') .. ' ', 1, true)
  local moved, left = now < r.u, r.e - now
  if moved then left = r.e - r.u end
  if left > 0 and not lost then
    if moved then r.e, r.u = now + left, now; write(key, r, left + GRACE) end
    return 4, left, 0
  end
  if r.s == 'q' then
    local keep = r.c
    write(key, close(r, 'c'), keep)
    return 5, 0, 0
  end
  local losses = 0
  if turn == r.t then losses = lost and r.l or r.l + 1 end
  return 1, math.max(r.f + 1, now * 1000), losses
end

local function decide(key, r, turn, job, unanswered)
  local ended = not string.find('rqw', r.s, 1, true)
  if r.job ~= job then
    -- What ended without an effect makes room for the next job of the key.
    if ended and r.s ~= 'd' then return 1, math.max(r.f + 1, now * 1000), 0 end
    if ended then return 2, string.byte(r.s), 0 end
    return 4, r.e > now and math.min(r.e - now, MAX_LEASE) or 1000, 0
  end
  if ended and r.s ~= 'c' then return 2, string.byte(r.s), 0 end
  if turn < r.t then return 3, r.t, 0 end
  if r.s == 'c' then return 5, 0, 0 end
  if r.s == 'w' then return 1, math.max(r.f + 1, now * 1000), 0 end
  return running(key, r, turn, unanswered)
end
