-- How a claim is written. Put before every claim script; mirrors shifter.policy.claim
-- .Claim and shifter.adapters.redis.record. One string, whole numbers, instants of this
-- server in ms:
--   1<state><fence>;<turn>;<attempt>;<losses>;<lease end>;<updated>;<cancel keep>;
--   <op> <owner>;<job>!         (on one line; <op> <owner> is empty unless running, and
--                               <job>! where the identity is the job's id)
-- state: r running, q running and asked to stop, w waiting, d done, x dead, e expired,
--        c cancelled, i discarded. 1p<identity> points from a job id to its claim.
-- Whatever else lies at a key counts as absent, and is counted in `resets`.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local resets, GRACE, LIMIT = 0, 3600000, 9007199254740991

local function int(n) return string.format('%.0f', n) end

local function parse(v)
  local r = {}
  r.s, r.f, r.t, r.a, r.l, r.e, r.u, r.c, r.who, r.job = string.match(v,
    '^1([rqwdxeci])(%d+);(%d+);(%d+);(%d+);(%d+);(%d+);(%d+);([^;]*);(.*)$')
  if not r.s then return nil end
  for _, name in ipairs({'f', 't', 'a', 'l', 'e', 'u', 'c'}) do
    r[name] = tonumber(r[name])
    if r[name] >= LIMIT then return nil end
  end
  return r
end

local function read(key)
  local v = redis.pcall('GET', key)
  if not v then return nil end
  if type(v) == 'table' then
    -- Anything but a key of another type is the caller's error: raise it.
    if not string.find(v.err, 'WRONGTYPE', 1, true) then redis.call('GET', key) end
    resets = resets + 1
    return nil
  end
  local r = parse(v)
  if not r and string.sub(v, 1, 2) ~= '1p' then resets = resets + 1 end
  return r, v
end

local function line(r)
  return '1' .. r.s .. int(r.f) .. ';' .. int(r.t) .. ';' .. int(r.a) .. ';' .. int(r.l)
    .. ';' .. int(r.e) .. ';' .. int(r.u) .. ';' .. int(r.c) .. ';' .. r.who .. ';' .. r.job
end

local function write(key, r, keep) redis.call('SET', key, line(r), 'PX', int(keep)) end

local function close(r, state)
  r.s, r.l, r.e, r.u, r.c, r.who = state, 0, 0, now, 0, ''
  return r
end

local function point(key, identity, keep)
  local r = read(key)
  if not r then redis.call('SET', key, '1p' .. identity, 'PX', keep) end
  return r ~= nil and r.s == 'c'
end
