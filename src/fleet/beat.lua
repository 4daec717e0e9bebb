-- SPDX-License-Identifier: MIT
-- A heartbeat, and all nodes. "seen" is Redis' clock, so that no other counts. What cannot be written (memory is
-- full, a disk is) is told, and everything is read all the same.
-- KEYS: nodes, meta
-- ARGV: node, its JSON behind "seen" ("": only looks), ms until a silent node is forgotten, nodes at most
-- Gives {now, error, what was there of the node, {epoch, revision, tag}, {node, JSON, ...}}
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local shown = string.format('%.0f', now)
local all = call('HGETALL', KEYS[1])
local before, fault = '', ''

local function put(node, rest)
    local reply = redis.pcall('HSET', KEYS[1], node, '{"seen":' .. shown .. rest)
    if type(reply) == 'table' and reply.err then
        fault = reply.err
    end
end

if ARGV[2] ~= '' then
    local kept = {}
    for i = 1, #all, 2 do
        local seen, rest = string.match(all[i + 1], '^{"seen":(%d+)(.*)$')
        seen = tonumber(seen or '0')
        if all[i] == ARGV[1] then
            before = all[i + 1]
        elseif seen > now + 1000 then
            -- By the clock of another server, which was ahead: it counts from now on.
            put(all[i], rest)
        elseif now - seen > tonumber(ARGV[3]) then
            redis.pcall('HDEL', KEYS[1], all[i])
        else
            kept[#kept + 1] = {all[i], seen}
        end
    end
    local over = #kept + 1 - tonumber(ARGV[4])
    if over > 0 then
        table.sort(kept, function(a, b) return a[2] < b[2] end)
        for i = 1, over do
            redis.pcall('HDEL', KEYS[1], kept[i][1])
        end
    end
    put(ARGV[1], ARGV[2])
    all = call('HGETALL', KEYS[1])
end
return {shown, fault, before, call('HMGET', KEYS[2], 'epoch', 'revision', 'tag'), all}
