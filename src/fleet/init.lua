-- SPDX-License-Identifier: MIT
-- Begins a history where there is none.
-- KEYS: meta, stream, nodes, hashes of declarations ...
-- ARGV: epoch, tag, highest revision of the caller, step, node, "1": also when others have declarations, ms that
-- a node lives after its heartbeat
-- Gives {"ok", epoch, revision}; {"exists"}; {"held", name}: a living node has seen another history; {"limit"}.
local limit = 9007199254740991
if call('EXISTS', KEYS[1]) == 1 then
    return {'exists'}
end
local total = 0
for i = 4, #KEYS do
    total = total + call('HLEN', KEYS[i])
end
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local floor, step, holder = tonumber(ARGV[3]), tonumber(ARGV[4]), nil
local nodes = call('HGETALL', KEYS[3])
for i = 1, #nodes, 2 do
    local fine, node = pcall(cjson.decode, nodes[i + 1])
    local revision = fine and type(node) == 'table' and node.revision
    if type(revision) == 'number' and revision > 0 and revision <= limit / 2 then
        local seen = tonumber(node.seen) or 0
        if nodes[i] ~= ARGV[5] and now - seen <= tonumber(ARGV[7]) then
            holder = type(node.name) == 'string' and node.name or nodes[i]
        end
        floor = math.max(floor, revision)
    end
end
if holder and total == 0 and ARGV[6] ~= '1' then
    return {'held', holder}
end
local revision = 0
if floor > 0 or total > 0 then
    revision = floor + step
end
if revision > limit then
    return {'limit'}
end
local shown = string.format('%.0f', revision)
call('XADD', KEYS[2], '*', 'v', '1', 'k', 'epoch', 'e', ARGV[1], 'r', shown, 'p', '0',
    't', ARGV[2], 'n', ARGV[5], 'c', '')
call('HSET', KEYS[1], 'schema', '1', 'epoch', ARGV[1], 'revision', shown, 'tag', ARGV[2],
    'stream_bytes', '0')
return {'ok', ARGV[1], shown}
