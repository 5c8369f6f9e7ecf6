-- Says that a worker left. Test: shifter/testing/conformance/presence.py.
-- ARGV[1] worker id. Returns nothing.
forget(ARGV[1])
