-- SPDX-License-Identifier: MIT
-- Writes were lost: a new epoch, and revisions go on above all that any node has seen.
-- KEYS: meta, stream, nodes
-- ARGV: epoch that was seen, new epoch, tag, highest revision of the caller, step, node, entries of the stream
-- Gives {"ok", epoch, revision, revision before}; {"same"}: another node has done it, and above the caller's;
-- {"empty"}; {"broken"}; {"limit"}: there are no more revisions.
local limit = 9007199254740991
local meta = call('HMGET', KEYS[1], 'epoch', 'revision')
if not meta[1] then
    return {'empty'}
end
local before = tonumber(meta[2] or '')
if not before or before < 0 or before > limit or before ~= math.floor(before) then
    return {'broken'}
end
local epoch, floor, step = meta[1], tonumber(ARGV[4]), tonumber(ARGV[5])
if epoch ~= ARGV[1] and floor < before then
    return {'same'}
end
if epoch == ARGV[1] then
    epoch = ARGV[2]
end
for _, text in ipairs(call('HVALS', KEYS[3])) do
    local fine, node = pcall(cjson.decode, text)
    local revision = fine and type(node) == 'table' and node.revision
    if type(revision) == 'number' and revision > floor and revision <= limit / 2 then
        floor = revision
    end
end
local revision = math.max(before, floor) + step
if revision > limit then
    return {'limit'}
end
local shown, previous = string.format('%.0f', revision), string.format('%.0f', before)
-- First, since it is refused when memory is full: nothing has been changed then.
call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[7], '*', 'v', '1', 'k', 'epoch', 'e', epoch,
    'r', shown, 'p', previous, 't', ARGV[3], 'n', ARGV[6], 'c', '')
call('HSET', KEYS[1], 'epoch', epoch, 'revision', shown, 'tag', ARGV[3])
return {'ok', epoch, shown, previous}
