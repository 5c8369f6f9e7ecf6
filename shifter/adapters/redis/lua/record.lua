-- How a claim is written; put before every claim script, behind number.lua. Mirrors
-- shifter.policy.delivery.claim_state, and shifter.adapters.redis.claim_scripts. One
-- line of whole numbers, instants of this server in ms:
--   1<state><fence>;<turn>;<attempt>;<losses>;<lease end>;<updated>;<cancel keep>;<who>;<job>
-- state: r running, q running and asked to stop, w waiting, d done, x dead, e expired,
--        c cancelled, i discarded
-- who:   "<op> <owner>" while running, else empty
-- job:   "<job id>!" where the identity is a user's key, else empty
-- 1p<identity> points from a job id to its claim. Whatever else lies at a key counts as
-- absent (access.lua counts it).
local MAX_LEASE, MAX_KEEP = 3600000, 31622400000 -- ms: an hour, 366 days
local MAX_VALUE = 4096 -- bytes; an owner and a job id of 128 characters each fit
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function parse(v)
  if #v > MAX_VALUE then return nil end
  local s, f, t, a, l, e, u, c, who, job = string.match(v,
    '^1([rqwdxeci])(%d+);(%d+);(%d+);(%d+);(%d+);(%d+);(%d+);([^;]*);(.*)$')
  if not s then return nil end
  local r = {
    f = whole(f), t = whole(t), a = whole(a), l = whole(l),
    e = whole(e, MAX_INSTANT), u = whole(u, MAX_INSTANT), c = whole(c, MAX_KEEP),
  }
  if not (r.f and r.t and r.a and r.l and r.e and r.u and r.c) then return nil end
  if r.e - r.u > MAX_LEASE or (s == 'q') ~= (r.c > 0) then return nil end
  r.s, r.who, r.job = s, who, job
  return r
end

local function line(r)
  return '1' .. r.s .. int(r.f) .. ';' .. int(r.t) .. ';' .. int(r.a) .. ';' .. int(r.l)
    .. ';' .. int(r.e) .. ';' .. int(r.u) .. ';' .. int(r.c) .. ';' .. r.who .. ';' .. r.job
end
