-- What lies at a key; writes nothing. Test: shifter/testing/conformance/claim_plain.py.
-- KEYS[1]  a job id, or the identity its pointer names.
-- Returns {"r", the claim}, {"p", identity} for a pointer, or {"", ""}; then "<now> <resets>".
local r, target = read(KEYS[1])
local told = int(now) .. ' ' .. resets
if target then return {'p', target, told} end
return {r and 'r' or '', r and line(r) or '', told}
