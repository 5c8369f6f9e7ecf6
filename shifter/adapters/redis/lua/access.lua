-- Reading and writing claims; put after record.lua.
local GRACE = 3600000 -- ms; how long a running claim outlives its lease
local resets = 0 -- values of another type or version that were found

-- The claim at a key, or nil and the identity that a pointer names. To one who claims,
-- the record of a job that was never claimed is not parsed: it counts as no claim.
local function read(key, is_claiming)
  local v = redis.pcall('GET', key)
  if not v then return nil end
  if type(v) == 'table' then
    -- Anything but a key of another type is the caller's error: raise it.
    if not string.find(v.err, 'WRONGTYPE', 1, true) then redis.call('GET', key) end
    resets = resets + 1
    return nil
  end
  if is_claiming and string.sub(v, 1, 6) == '1w0;0;' and string.byte(v, -1) == 59 then
    return nil
  end
  local r = parse(v)
  if r then return r end
  if string.sub(v, 1, 2) == '1p' and #v <= MAX_VALUE then return nil, string.sub(v, 3) end
  resets = resets + 1
  return nil
end

local function write(key, r, keep) redis.call('SET', key, line(r), 'PX', int(keep)) end

local function close(r, state)
  r.s, r.l, r.e, r.u, r.c, r.who = state, 0, 0, now, 0, ''
  return r
end

-- Leaves a pointer, unless a claim lies there already: returns that one's state.
local function point(key, identity, keep)
  local r = read(key)
  if r then return r.s end
  redis.call('SET', key, '1p' .. identity, 'PX', keep)
end
