-- Writes the ends of turns. Mirrors shifter.policy.delivery.claim.decide_finish.
-- Test: tests/property/test_claims_machine.py.
-- KEYS[1..n]  claims; KEYS[n+1..] pointers of those below that have one.
-- ARGV[1] n; [2..n+1] "<fence>;<turn>;<attempt>"; [n+2] state and [n+3] keep, ms, of most;
--   then four each for the others: index, state, keep, identity if it has a pointer.
-- Returns "<now> <resets>", and the indexes whose fence was not the newest; an index with
--   "c<keep>" behind it is of a job that was to wait and is cancelled.
local n, others = tonumber(ARGV[1]), {}
local tail, out, pointers = ';0;0;' .. int(now) .. ';0;;', {int(now)}, n
for a = n + 4, #ARGV, 4 do others[tonumber(ARGV[a])] = a end

for i = 1, n do
  local key, ask, a = KEYS[i], ARGV[i + 1], others[i]
  local state, keep = ARGV[a and a + 1 or n + 2], ARGV[a and a + 2 or n + 3]
  local v, cut = redis.pcall('GET', key), string.find(ask, ';', 1, true)
  local last, written, stopped = type(v) == 'string' and string.byte(v, -1), v and true, nil
  -- Most: a whole record (it ends in ';', or in '!' after a job), running, not cancelled.
  if (last == 59 or last == 33)
    and string.sub(v, 1, cut + 2) == '1r' .. string.sub(ask, 1, cut) then
    local job = last == 33 and string.match(v, '[^;]*$') or ''
    redis.call('SET', key, '1' .. state .. ask .. tail .. job, 'PX', keep)
  else
    if v then written, stopped = ended(key, ask, state, keep) end
  end
  if stopped then out[#out + 1] = i .. 'c' .. int(stopped) end
  if not written then out[#out + 1] = i end
  if a and ARGV[a + 3] ~= '' then
    pointers = pointers + 1
    if written then point(KEYS[pointers], ARGV[a + 3], keep) end
  end
end
table.insert(out, 2, resets)
return table.concat(out, ' ')
