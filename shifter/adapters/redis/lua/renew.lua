-- Extends leases from now. Mirrors shifter.policy.claim.decide_renew.
-- Test: tests/property/test_claims_machine.py.
-- KEYS  claims; ARGV[1] lease, ms; ARGV[1+i] fence.
-- Returns "<now> <resets> <d…>": 0 not held, 1 held, 2 held and asked to stop.
local lease, out = tonumber(ARGV[1]), {}
for i = 1, #KEYS do
  local r = read(KEYS[i])
  out[i] = '0'
  if r and (r.s == 'r' or r.s == 'q') and r.f == tonumber(ARGV[i + 1]) then
    r.e, r.u = now + lease, now
    write(KEYS[i], r, lease + GRACE)
    out[i] = r.s == 'r' and '1' or '2'
  end
end
return int(now) .. ' ' .. resets .. ' ' .. table.concat(out)
