-- Writes the ends of turns. Mirrors shifter.policy.claim.decide_finish.
-- Test: tests/property/test_claims_machine.py.
-- KEYS  claims, n of them.
-- ARGV[1..n] "<fence>;<turn>;<attempt>"; [n+1] state and [n+2] keep, ms, of most; then
--   three each for the others: index, state, keep.
-- Returns "<now> <resets>" and the indexes whose fence was not the newest.
local n, others = #KEYS, {}
local tail, out = ';0;0;' .. int(now) .. ';0;;', {int(now)}
for a = n + 3, #ARGV, 3 do others[tonumber(ARGV[a])] = a end

local function said(key, ask, state, keep)
  local r = read(key)
  local fence, turn, attempt = string.match(ask, '^(%d+);(%d+);(%d+)$')
  if not r or r.f ~= tonumber(fence) then return false end
  if r.s ~= 'r' and r.s ~= 'q' then
    return r.t == tonumber(turn) and (r.s == state or (r.s == 'c' and state == 'w'))
  end
  if r.s == 'q' and state == 'w' then state, keep = 'c', math.max(tonumber(keep), r.c) end
  close(r, state)
  r.t, r.a = tonumber(turn), tonumber(attempt)
  write(key, r, keep)
  return true
end

for i = 1, n do
  local key, ask, a = KEYS[i], ARGV[i], others[i]
  local state, keep = ARGV[a and a + 1 or n + 1], ARGV[a and a + 2 or n + 2]
  local v, cut = redis.pcall('GET', key), string.find(ask, ';', 1, true)
  -- Most: running, no cancel asked, no job of its own (the last field is empty).
  if type(v) == 'string' and string.byte(v, -1) == 59
    and string.sub(v, 1, cut + 2) == '1r' .. string.sub(ask, 1, cut) then
    redis.call('SET', key, '1' .. state .. ask .. tail, 'PX', keep)
  elseif not v or not said(key, ask, state, keep) then
    out[#out + 1] = i
  end
end
table.insert(out, 2, resets)
return table.concat(out, ' ')
