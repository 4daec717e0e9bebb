-- SPDX-License-Identifier: MIT
-- Raises a node's session above all that it had, so that write.lua refuses what older connections still
-- send; or, with a probe, says whether this one is still the newest, and whether Redis can be written. What
-- older sessions have written is not above the revision that it gives.
--
-- KEYS  fence, meta        ARGV  node, the highest session that it knows of, "1": a probe
-- Gives {session (0: a newer one is there), epoch, revision}; the last two are "" in an empty store.
local stored = tonumber(call('HGET', KEYS[1], ARGV[1]) or '0') or 0
if not (stored >= 0 and stored <= 4503599627370496) then
    stored = 0 -- Somebody broke it (it may be no number): no session could be above it.
end
local place = call('HMGET', KEYS[2], 'epoch', 'revision')
local session = tonumber(ARGV[2])
if ARGV[3] ~= '1' then
    session = math.max(stored, session) + 1
elseif stored > session then
    session = 0
end
if session > 0 then
    call('HSET', KEYS[1], ARGV[1], string.format('%.0f', session))
end
return {session, place[1] or '', place[2] or ''}
