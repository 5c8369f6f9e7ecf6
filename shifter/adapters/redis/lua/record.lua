-- How a claim is written; put before every claim script. Mirrors shifter.policy.claim.Claim
-- and shifter.adapters.redis.record. One line of whole numbers, instants of this server
-- in ms:
--   1<state><fence>;<turn>;<attempt>;<losses>;<lease end>;<updated>;<cancel keep>;<who>;<job>
-- state: r running, q running and asked to stop, w waiting, d done, x dead, e expired,
--        c cancelled, i discarded
-- who:   "<op> <owner>" while running, else empty
-- job:   "<job id>!" where the identity is a user's key, else empty
-- 1p<identity> points from a job id to its claim. Whatever else lies at a key counts as
-- absent (access.lua counts it).
local LIMIT = 9007199254740991 -- 2^53 - 1: Lua counts in doubles
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function int(n) return string.format('%.0f', n) end

local function parse(v)
  local s, f, t, a, l, e, u, c, who, job = string.match(v,
    '^1([rqwdxeci])(%d+);(%d+);(%d+);(%d+);(%d+);(%d+);(%d+);([^;]*);(.*)$')
  if not s then return nil end
  local r = {f = f, t = t, a = a, l = l, e = e, u = u, c = c}
  for name, digits in pairs(r) do
    r[name] = tonumber(digits)
    if r[name] >= LIMIT then return nil end
  end
  r.s, r.who, r.job = s, who, job
  return r
end

local function line(r)
  return '1' .. r.s .. int(r.f) .. ';' .. int(r.t) .. ';' .. int(r.a) .. ';' .. int(r.l)
    .. ';' .. int(r.e) .. ';' .. int(r.u) .. ';' .. int(r.c) .. ';' .. r.who .. ';' .. r.job
end
