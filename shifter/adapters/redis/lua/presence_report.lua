-- Says that a worker lives. Mirrors shifter.adapters.memory.state.
-- Test: shifter/testing/conformance/presence.py.
-- ARGV[1] worker id; [2] report; [3] keep, ms. Returns nothing.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. int(now + MAX_KEEP), '+inf')
local faded = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
for _, id in ipairs(faded) do forget(id) end
redis.call('ZADD', KEYS[1], int(now + math.min(tonumber(ARGV[3]), MAX_KEEP)), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
for _, key in ipairs(KEYS) do redis.call('PEXPIREAT', key, int(math.ceil(tonumber(last)))) end
