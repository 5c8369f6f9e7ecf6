-- Asks that a job not run (again). Mirrors shifter.policy.delivery.claim.decide_cancel.
-- Test: tests/property/test_claims_machine.py.
-- KEYS[1]  a job id, or the identity its pointer names.
-- ARGV[1] keep, ms; [2] "own" (a pointer is followed), "over" (it is overwritten), or
--   "job" (the key is an identity); [3] the job, for "job", else empty.
-- Returns {"p", identity} for a pointer, {"o", ""} where another job holds the identity,
--   else {"r", the claim after the call}; then "<now> <resets>".
local r, target = read(KEYS[1])
if target and ARGV[2] == 'own' then return {'p', target, int(now) .. ' ' .. resets} end
if r and ARGV[2] == 'job' and r.job ~= ARGV[3] then return {'o', '', int(now) .. ' ' .. resets} end
if not r then
  r = close({f = 0, t = 0, a = 1, job = ARGV[3]}, 'w')
end
if r.s == 'r' or r.s == 'q' then
  r.s, r.c = 'q', tonumber(ARGV[1])
  redis.call('SET', KEYS[1], line(r), 'KEEPTTL')
elseif r.s == 'w' then
  write(KEYS[1], close(r, 'c'), ARGV[1])
end
return {'r', line(r), int(now) .. ' ' .. resets}
