-- Numbers that the store holds, read once and strictly; put before every script.
-- Mirrors shifter.model.fleet. Test: tests/regress/test_store_lies.py, which reads the
-- same texts in both.
local MAX_COUNT, MAX_INSTANT, MAX_LOAD = 9007199254740990, 253402300799999, 1000000

local function int(n) return string.format('%.0f', n) end

-- A whole number from 0 to `most`: digits, no leading zero; nil for whatever else.
local function whole(text, most)
  if type(text) ~= 'string' or #text > 16 or not string.find(text, '^%d+$') then return nil end
  if #text > 1 and string.byte(text) == 48 then return nil end
  local n = tonumber(text)
  if n > (most or MAX_COUNT) then return nil end
  return n
end

-- A load from 0 to MAX_LOAD, as Python writes a float; nil for whatever else.
local function load_of(text)
  if type(text) ~= 'string' or #text > 24 then return nil end
  if not string.find(text, '^%d+%.?%d*$') and not string.find(text, '^%d+%.?%d*e[+-]?%d+$') then
    return nil
  end
  local n = tonumber(text)
  if not n or n > MAX_LOAD then return nil end
  return n
end
