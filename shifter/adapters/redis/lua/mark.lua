-- Keeps ends of keyed jobs under their own ids, in place of their pointers: the claim of
-- the key may be another job's soon. Mirrors shifter.policy.delivery.claim_state.own_end.
-- Test: shifter/testing/conformance/claim_keyed.py.
-- KEYS  job ids; ARGV two each: the claim, keep, ms. Returns "<now> <resets>".
for i = 1, #KEYS do
  if not read(KEYS[i]) then redis.call('SET', KEYS[i], ARGV[2 * i - 1], 'PX', ARGV[2 * i]) end
end
return int(now) .. ' ' .. resets
