-- Leaves pointers from job ids to claims, ahead of a claim in another hash slot.
-- Test: tests/conformance/test_claims.py (suite of a store that sends by hash tag).
-- KEYS  job ids; ARGV[1] keep, ms; ARGV[1+i] identity.
-- Returns "<now> <resets> <s…>": one letter each, the state of a claim that lies there
--   already, else "-".
local out = {}
for i = 1, #KEYS do out[i] = point(KEYS[i], ARGV[i + 1], ARGV[1]) or '-' end
return int(now) .. ' ' .. resets .. ' ' .. table.concat(out)
