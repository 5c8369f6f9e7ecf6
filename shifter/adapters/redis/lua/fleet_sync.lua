-- One process reports what it counted, and receives what holds for the fleet.
-- Mirrors shifter.policy.protection.fleet_table.FleetTable.sync and .mend; put behind number.lua.
-- Test: tests/conformance/test_fleet.py, which drives both with the same reports.
-- A sync looks at all processes only now and then, so that its cost does not grow with
-- the fleet: beyond EXACT processes their number and load are as of the last such look,
-- and beyond EVERYONE the evidence goes to alarmed processes, so many reports in 200 ms.
-- KEYS[1]  hash: version of the cells; until when the evidence of every process is sent;
--          the last look at all; reports of evidence sent lately
-- KEYS[2]  hash: the cells
-- KEYS[3]  hash: process to "until load"
-- KEYS[4]  hash: process to its evidence
-- KEYS[5]  hash: dependency to its retry budget, packed: bucket, deposited, withdrawn, ..
-- KEYS[6]  hash: dependency to when its calls would be spread out, us
-- KEYS[7]  sorted set: the processes, all with the same score, so by their names
-- ARGV     [1] channel; [2] now, us, or '' for this server's; [3] process; [4] load;
--          [5] evidence; [6] alarmed, 0 or 1; [7] keep, ms, 0 to say nothing that
--          lasts; [8] version known;
--          [9] two lists, packed: budgets {name, floor, bucket ms, deposit buckets,
--          withdrawal buckets, deposit, {four wants}} and rates {name, interval us,
--          burst, want}; from [10] on proposals: name, expected, value, and so on.
local MAX_NAMES, MAX_NAME, MAX_CELL, MAX_PROCESSES = 4096, 1024, 4096, 20000
local MAX_EVIDENCE, MAX_EVIDENCE_TOLD, PAGE = 262144, 16777216, 500
local MAX_MILLI = 1000000000 -- thousandths of a retry deposited in one bucket
local DAY, MAX_KEEP, SLACK_US = 86400000, 60000, 60000000
local WITHHELD = {0, 100, 250, 500} -- shifter.policy.protection.budget, most urgent first

local strange = 0 -- values that are none of ours: passed over, and written anew
local function number_in(key, field)
  local text = redis.call('HGET', key, field)
  local n = whole(text)
  if text and not n then
    redis.call('HDEL', key, field)
    strange = strange + 1
  end
  return n
end
local time = redis.call('TIME')
local now_us = tonumber(ARGV[2]) or (time[1] * 1000000 + time[2])
local now = math.floor(now_us / 1000)
-- shifter.policy.protection.fleet_pace has the same numbers
local EXACT, EVERYONE, MAX_TOLD = 16, 100, 20000
local LOOK_US, LOOK_PROCESS_US = 200000, 100
local process, evidence, load = ARGV[3], ARGV[5], ARGV[4]
local until_ms = now + math.min(tonumber(ARGV[7]), MAX_KEEP)
local budgets, wanted = unpack(cmsgpack.unpack(ARGV[9]))
if #evidence > MAX_EVIDENCE then evidence = '' end

-- Whether this sync has to look at all processes. A key of another type has errors here;
-- the look removes it.
local head = redis.pcall('HMGET', KEYS[1], 'look', 'alarm', 'told')
local size = redis.pcall('HLEN', KEYS[3])
local is_light, known_look = false, nil
if not head.err and type(size) == 'number' and size > EXACT and size < MAX_PROCESSES then
  local made, count, mean, highest = string.match(head[1] or '', '^(%d+) (%d+) (%S+) (%S+)$')
  made, count = whole(made), whole(count, MAX_PROCESSES)
  mean, highest = load_of(mean), load_of(highest)
  if made and count and mean and highest and made <= now_us then
    known_look = {count, mean, highest}
    is_light = now_us - made < math.max(LOOK_US, count * LOOK_PROCESS_US)
  end
end
local tells = ARGV[6] == '1'
if known_look then
  local alarmed_until = whole(head[2] or '', MAX_INSTANT) or 0
  local is_alarm = now < alarmed_until and alarmed_until <= now + MAX_KEEP
  if until_ms > now and size > EVERYONE then
    local window, count = string.match(head[3] or '', '^(%d+) (%d+)$')
    local here = math.floor(now_us / LOOK_US)
    local told = whole(window) == here and whole(count, MAX_COUNT) or 0
    tells = tells and (told == 0 or told + size <= MAX_TOLD)
    if tells then redis.call('HSET', KEYS[1], 'told', int(here) .. ' ' .. int(told + size)) end
  else
    tells = tells or is_alarm
  end
  is_light = is_light and not tells and until_ms > now
end

-- What no fleet can have made goes whole: another type, or more than there is room for.
for i, key in ipairs(is_light and {} or KEYS) do
  local kind = redis.call('TYPE', key).ok
  local most = ({16, MAX_NAMES, MAX_PROCESSES, MAX_PROCESSES, MAX_NAMES, MAX_NAMES,
    MAX_PROCESSES})[i]
  local is_ours = kind == (i == 7 and 'zset' or 'hash')
  if kind ~= 'none' and not (is_ours and redis.call(i == 7 and 'ZCARD' or 'HLEN', key) <= most) then
    redis.call('DEL', key)
    if i == 2 then redis.call('HDEL', KEYS[1], 'version') end -- all processes read it again
    strange = strange + 1
  end
end

-- cells
local known = number_in(KEYS[1], 'version')
local version = known or now_us
local accepted, changes = {}, 0
for at = 10, #ARGV, 3 do
  local name, expected, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local held = redis.call('HGET', KEYS[2], name)
  local fits = (held or '') == expected and #value <= MAX_CELL
  if fits and value == '' then
    fits = redis.call('HDEL', KEYS[2], name) == 1
  elseif fits then
    fits = held or redis.call('HLEN', KEYS[2]) < MAX_NAMES
    if fits then redis.call('HSET', KEYS[2], name, value) end
  end
  accepted[#accepted + 1] = fits and 1 or 0
  if fits then changes = changes + 1 end
end
version = version + changes
if changes > 0 or not known then redis.call('HSET', KEYS[1], 'version', int(version)) end
if changes > 0 then redis.pcall('PUBLISH', ARGV[1], int(version)) end

-- voices
local said, count, mean, highest, place = {}, 0, 0, 0, -1

local function enter()
  redis.call('HSET', KEYS[4], process, evidence)
  if redis.call('HSET', KEYS[3], process, int(until_ms) .. ' ' .. load) == 1 then
    redis.call('ZADD', KEYS[7], 0, process)
  end
  if ARGV[6] == '1' then
    local alarm = number_in(KEYS[1], 'alarm') or 0
    if alarm > now + MAX_KEEP then alarm = 0 end
    redis.call('HSET', KEYS[1], 'alarm', int(math.max(alarm, until_ms)))
  end
end

-- What the last look saw, and this process.
local function report_only()
  enter()
  count, mean, highest = unpack(known_look)
  local rank = redis.call('ZRANK', KEYS[7], process)
  if not rank then
    redis.call('ZADD', KEYS[7], 0, process)
    rank = redis.call('ZRANK', KEYS[7], process)
  end
  place, count = rank, math.max(count, rank + 1)
  highest = math.max(highest, load_of(load) or 0)
end

local function tell(voices)
  local told_bytes = 0
  for first = 1, #voices, PAGE do -- Lua's `unpack` has a limit
    local last = math.min(first + PAGE - 1, #voices)
    local texts = redis.call('HMGET', KEYS[4], unpack(voices, first, last))
    for i, text in ipairs(texts) do
      text = text or ''
      if #text > MAX_EVIDENCE or told_bytes + #text > MAX_EVIDENCE_TOLD then
        strange, text = strange + 1, ''
      end
      told_bytes = told_bytes + #text
      said[#said + 1] = voices[first + i - 1]
      said[#said + 1] = text
    end
  end
end

local function look()
  local found, voices, loads = redis.call('HGETALL', KEYS[3]), {}, {}
  for i = 1, #found, 2 do
    local ends, busy = string.match(found[i + 1], '^(%d+) (%S+)$')
    ends, busy = whole(ends, MAX_INSTANT), load_of(busy)
    local is_ours = ends and busy and #found[i] <= MAX_NAME
    if not is_ours or ends > now + MAX_KEEP then strange = strange + 1 end
    if is_ours and ends > now and ends <= now + MAX_KEEP then
      voices[#voices + 1] = found[i]
      loads[found[i]] = busy
    else
      redis.call('HDEL', KEYS[3], found[i])
      redis.call('HDEL', KEYS[4], found[i])
      redis.call('ZREM', KEYS[7], found[i])
    end
  end
  if until_ms > now and (loads[process] or #voices < MAX_PROCESSES) then
    if not loads[process] then voices[#voices + 1] = process end
    loads[process] = load_of(load) or 0
    enter()
  end
  local sum = 0
  for _, voice in ipairs(voices) do
    sum = sum + loads[voice]
    highest = math.max(highest, loads[voice])
    if voice < process then place = place + 1 end
  end
  place = loads[process] and place + 1 or -1
  count, mean = #voices, #voices > 0 and sum / #voices or 0
  if redis.call('ZCARD', KEYS[7]) ~= count then
    redis.call('DEL', KEYS[7])
    for _, voice in ipairs(voices) do redis.call('ZADD', KEYS[7], 0, voice) end
  end
  if count > EXACT then
    local text = string.format('%.0f %d %.17g %.17g', now_us, count, mean, highest)
    redis.call('HSET', KEYS[1], 'look', text)
  end
  local alarm = number_in(KEYS[1], 'alarm') or 0
  if count <= EVERYONE then tells = tells or (now < alarm and alarm <= now + MAX_KEEP) end
  if tells then tell(voices) end
end

if is_light then report_only() else look() end

-- budgets
local function within(n, least, most)
  return type(n) == 'number' and n == math.floor(n) and n >= least and n <= most
end
local function row_in(text, most)
  if #text > 64 * most then return nil end
  local fine, row = pcall(cmsgpack.unpack, text)
  if not fine or type(row) ~= 'table' or #row % 3 ~= 0 or #row > 3 * most then return nil end
  for i = 1, #row, 3 do
    -- What was spent without the store is made good: a deposit may be below 0.
    local fits = within(row[i], 0, MAX_COUNT) and within(row[i + 1], -MAX_MILLI, MAX_MILLI)
    if not fits or not within(row[i + 2], 0, MAX_COUNT) then return nil end
  end
  return row
end
local function row_of(name, most)
  local text = redis.call('HGET', KEYS[5], name)
  local row = text and row_in(text, most)
  if text and not row then strange = strange + 1 end
  return row or (text and {})
end
local granted = {}
for _, budget in ipairs(budgets) do
  local name, floor, size, deposits, withdrawals, deposit, wants = unpack(budget)
  local row = row_of(name, 2 * math.max(deposits, withdrawals) + 1)
  if not row and redis.call('HLEN', KEYS[5]) >= MAX_NAMES then
    for _ = 1, 4 do granted[#granted + 1] = 0 end
  else
    row = row or {}
    local current = math.floor(now / size)
    local longest = math.max(deposits, withdrawals)
    local latest = current + longest -- a clock that jumped back begins anew
    for i = 1, #row, 3 do
      if row[i] <= latest then current = math.max(current, row[i]) end
    end
    local oldest = current - longest
    local capacity, used, put_now, taken_now, after = floor, 0, 0, 0, {}
    for i = 1, #row, 3 do
      local bucket, put, taken = row[i], row[i + 1], row[i + 2]
      if bucket > oldest and bucket <= latest then
        if bucket > current - deposits then capacity = capacity + put end
        if bucket > current - withdrawals then used = used + taken end
        if bucket == current then
          put_now, taken_now = put, taken
        else
          after[#after + 1], after[#after + 2], after[#after + 3] = bucket, put, taken
        end
      end
    end
    local put_after = math.max(-MAX_MILLI, math.min(MAX_MILLI, put_now + deposit))
    capacity = capacity + put_after - put_now
    local left = capacity - used
    for i, want in ipairs(wants) do
      local free = left - math.floor(capacity * WITHHELD[i] / 1000)
      local retries = math.min(want, math.max(0, math.floor(free / 1000)))
      left = left - retries * 1000
      taken_now = taken_now + retries * 1000
      granted[#granted + 1] = retries
    end
    after[#after + 1], after[#after + 2], after[#after + 3] = current, put_after, taken_now
    redis.call('HSET', KEYS[5], name, cmsgpack.pack(after))
  end
end

-- rates
local rates = {}
for _, rate in ipairs(wanted) do
  local name, interval, burst, want = unpack(rate)
  local held = redis.call('HGET', KEYS[6], name)
  if not held and redis.call('HLEN', KEYS[6]) >= MAX_NAMES then
    rates[#rates + 1], rates[#rates + 2] = 0, int(interval)
  else
    local spread = number_in(KEYS[6], name) or 0
    if spread > now_us + burst * interval + SLACK_US then spread = 0 end
    local start = math.max(spread, now_us)
    local room = now_us + burst * interval - start
    local calls = math.max(0, math.min(want, math.floor(room / interval)))
    local wait = 0
    if calls > 0 then spread = start + calls * interval else wait = interval - room end
    redis.call('HSET', KEYS[6], name, int(spread))
    rates[#rates + 1], rates[#rates + 2] = calls, int(wait)
  end
end

-- A sync that looked at nothing renews only the keys that it may have made.
local renewed = {[2] = changes > 0, [5] = #budgets > 0, [6] = #wanted > 0}
for i, keep in ipairs({DAY, DAY, 60000, 60000, 180000, 2 * DAY, 60000}) do
  if not is_light or renewed[i] then
    redis.call('PEXPIRE', KEYS[i], keep)
  end
end
local cells = false
if tonumber(ARGV[8]) ~= version then
  cells = {}
  local held = redis.call('HGETALL', KEYS[2])
  for i = 1, #held, 2 do
    if #held[i] <= MAX_NAME and #held[i + 1] <= MAX_CELL then
      cells[#cells + 1], cells[#cells + 2] = held[i], held[i + 1]
    else
      redis.call('HDEL', KEYS[2], held[i])
      strange = strange + 1
    end
  end
end
local told = {string.format('%.17g', mean), string.format('%.17g', highest)}
return {int(now_us), int(version), cells, accepted, said, count, told, granted, rates, strange, place}
