-- SPDX-License-Identifier: MIT
-- Raises a node's session above all that it had, so that write.lua refuses what older connections still
-- send; or, with a probe, says whether this one is still the newest, and whether Redis can be written.
--
-- KEYS  fence        ARGV  node, the highest session that it knows of, "1": a probe
-- Gives the session (0: a newer one is there).
local stored = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') or 0
local known = tonumber(ARGV[2])
if ARGV[3] == '1' then
    if stored > known then
        return 0
    end
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    return known
end
local session = math.max(stored, known) + 1
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', session))
return session
