-- Reports of live workers. Put before every presence script, behind number.lua.
-- KEYS[1]  sorted set: worker id, by when its report fades, ms of this server
-- KEYS[2]  hash: worker id to report
local MAX_KEEP, MAX_REPORTS, MAX_REPORT = 600000, 40000, 65536 -- ms, both keys, bytes
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- What no fleet can have made goes whole: another type, or more than there is room for.
local function mend(key, kind, size)
  local found = redis.call('TYPE', key).ok
  if found == 'none' then return end
  if found ~= kind or redis.call(size, key) > MAX_REPORTS then redis.call('DEL', key) end
end
mend(KEYS[1], 'zset', 'ZCARD')
mend(KEYS[2], 'hash', 'HLEN')

local function forget(id)
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
