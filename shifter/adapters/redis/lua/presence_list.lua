-- A page of reports that have not faded, newest end first. An end that lies further ahead
-- than anybody may set it is none of ours. Test: shifter/testing/conformance/presence.py.
-- ARGV[1] how many to pass over; [2] at most so many, <= 500: Lua's `unpack` has a limit.
-- Returns the reports; false for one that is missing or too large.
local ids = redis.call('ZREVRANGEBYSCORE', KEYS[1], int(now + MAX_KEEP), '(' .. int(now),
  'LIMIT', ARGV[1], ARGV[2])
if #ids == 0 then return {} end
local reports = redis.call('HMGET', KEYS[2], unpack(ids))
for i, report in ipairs(reports) do
  if report and #report > MAX_REPORT then reports[i] = false end
end
return reports
