-- Reports of live workers. Put before every presence script.
-- KEYS[1]  sorted set: worker id, by when its report fades, ms of this server
-- KEYS[2]  hash: worker id to report
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function mend(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end
mend(KEYS[1], 'zset')
mend(KEYS[2], 'hash')

local function forget(id)
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
