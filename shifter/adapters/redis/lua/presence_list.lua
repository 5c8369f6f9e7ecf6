-- Reports that have not faded. Test: shifter/testing/conformance/presence.py.
-- ARGV[1] at most so many. Returns the reports, newest end first.
local ids = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '(' .. string.format('%.0f', now),
  'LIMIT', 0, ARGV[1])
if #ids == 0 then return {} end
return redis.call('HMGET', KEYS[2], unpack(ids))
