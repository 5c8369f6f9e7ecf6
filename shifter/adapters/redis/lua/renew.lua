-- Extends leases from now. Mirrors shifter.policy.delivery.claim.decide_renew.
-- Test: tests/property/test_claims_machine.py.
-- KEYS[1..n]  claims; KEYS[n+1..] pointers of those listed last.
-- ARGV[1] n; [2] lease, ms; [2+i] fence; then two each: index, identity of its pointer.
-- Returns "<now> <resets> <d…>": 0 not held, 1 held, 2 held and asked to stop.
local n, lease, out = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for i = 1, n do
  local r = read(KEYS[i])
  out[i] = '0'
  if r and (r.s == 'r' or r.s == 'q') and r.f == tonumber(ARGV[i + 2]) then
    r.e, r.u = now + lease, now
    write(KEYS[i], r, lease + GRACE)
    out[i] = r.s == 'r' and '1' or '2'
  end
end
for a = n + 3, #ARGV, 2 do
  local at = n + (a - n - 1) / 2
  if out[tonumber(ARGV[a])] ~= '0' then point(KEYS[at], ARGV[a + 1], int(lease + GRACE)) end
end
return int(now) .. ' ' .. resets .. ' ' .. table.concat(out)
