-- Asks to run a batch of jobs. Mirrors shifter.policy.delivery.claim.decide_claim.
-- Test: tests/property/test_claims_machine.py.
-- KEYS[1..n]  claims; KEYS[n+1..] job ids of those below that name a <target>.
-- ARGV[1] n; [2] lease, ms; [3] "<op> <owner>"; [4] " <op> <op> ", never answered;
--   [5] "<turn>;<attempt>" of most; then four each for the others: index, their own
--   "<turn>;<attempt>", job, target (the identity to point to, or empty).
-- Returns "<now> <resets>", then " <index> <code> <a> <b>" for all but plain grants of
--   fence <now>000: 1 granted (fence, losses), 2 finished (state's byte), 3 handed over
--   (turn), 4 busy (ms), 5 cancelled.
local n, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local keep, base = int(lease + GRACE), now * 1000
local tail = ';' .. int(now + lease) .. ';' .. int(now) .. ';0;' .. ARGV[3] .. ';'
local plain = '1r' .. int(base) .. ';'
local others, job_keys, out = {}, n, {int(now)}
for a = 6, #ARGV, 4 do others[tonumber(ARGV[a])] = a end
for i = 1, n do
  local key, ask, job, a, code, x, y = KEYS[i], ARGV[5], '', others[i], 1, base, 0
  if a then
    ask, job = ARGV[a + 1], ARGV[a + 2]
    if ARGV[a + 3] ~= '' then
      job_keys = job_keys + 1
      local s = point(KEYS[job_keys], ARGV[a + 3], keep)
      if s == 'c' then
        code, x = 5, 0
      elseif s and not string.find('rqw', s, 1, true) then
        code, x = 2, string.byte(s)
      end
    end
  end
  local r = code == 1 and read(key, true)
  if r then code, x, y = decide(key, r, tonumber(string.match(ask, '^[^;]*')), job, ARGV[4]) end
  if code == 1 then
    local head = r and '1r' .. int(x) .. ';' or plain
    redis.call('SET', key, head .. ask .. ';' .. int(y) .. tail .. job, 'PX', keep)
  end
  if code ~= 1 or x ~= base or y ~= 0 then
    out[#out + 1] = i .. ' ' .. code .. ' ' .. int(x) .. ' ' .. int(y)
  end
end
table.insert(out, 2, resets)
return table.concat(out, ' ')
