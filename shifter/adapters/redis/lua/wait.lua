-- Records that accepted jobs wait, where nothing is recorded. Mirrors
-- shifter.policy.delivery.claim_state.waiting_claim; a keyed job gets its pointer.
-- Test: shifter/testing/conformance/claims.py.
-- KEYS[1..n]  beginnings of the keys of job ids, each with one hash tag. What follows in
--   each key is in the arguments, so that a batch is few arguments.
-- ARGV[1] keep, ms; [2] "1p<identity>" for jobs of one identity, else empty;
--   [3..n+2] for each beginning the ends, one a line.
-- Returns "<now> 0 <m>": m were left out, because more than half of the server's memory
--   is used. It is not asked where a user may not: then none is left out.
local keep, value, is_full, out = ARGV[1], ARGV[2], false, 0
local info = redis.pcall('INFO', 'memory')
if type(info) == 'string' then
  local used = tonumber(string.match(info, 'used_memory:(%d+)'))
  local most = tonumber(string.match(info, 'maxmemory:(%d+)'))
  is_full = used and most and most > 0 and used > most / 2
end
if value == '' then
  value = line({s = 'w', f = 0, t = 0, a = 1, l = 0, e = 0, u = now, c = 0, who = '', job = ''})
end
for i, prefix in ipairs(KEYS) do
  for id in string.gmatch(ARGV[i + 2], '[^\n]+') do
    if is_full then
      out = out + 1
    else
      redis.call('SET', prefix .. id, value, 'PX', keep, 'NX')
    end
  end
end
return int(now) .. ' 0 ' .. out
