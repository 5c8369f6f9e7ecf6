-- Leaves pointers from job ids to claims, ahead of a claim in another hash slot.
-- Test: tests/conformance/test_claims.py (suite of a store that sends by hash tag).
-- KEYS  job ids; ARGV[1] keep, ms; ARGV[1+i] identity.
-- Returns "<now> <resets> <d…>": one digit each, 1 where the job was cancelled before.
local out = {}
for i = 1, #KEYS do out[i] = point(KEYS[i], ARGV[i + 1], ARGV[1]) and '1' or '0' end
return int(now) .. ' ' .. resets .. ' ' .. table.concat(out)
