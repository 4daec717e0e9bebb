-- SPDX-License-Identifier: MIT
-- One look at where the history is, and whether it holds a place. Writes nothing.
-- KEYS: meta, stream, hashes of declarations ...    ARGV: stream id of the place, its tag
-- Gives: "1" there is a meta, epoch, revision, tag, schema, last stream id, first entry's id ("": none),
-- "1" the place is in the stream, number of declarations, the same of each hash.
local meta = call('HMGET', KEYS[1], 'epoch', 'revision', 'tag', 'schema')
local total, counts = 0, {}
for i = 3, #KEYS do
    counts[i - 2] = call('HLEN', KEYS[i])
    total = total + counts[i - 2]
end
local last, first, found = '0-0', '', '0'
if call('EXISTS', KEYS[2]) == 1 then
    call('XLEN', KEYS[2]) -- its type: XINFO would not say which key it is
    local info = call('XINFO', 'STREAM', KEYS[2])
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then
            last = info[i + 1]
        elseif info[i] == 'first-entry' and info[i + 1] then
            first = info[i + 1][1]
        end
    end
    local entry = call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
    if entry then
        for i = 1, #entry[2], 2 do
            if entry[2][i] == 't' and entry[2][i + 1] == ARGV[2] then
                found = '1'
            end
        end
    end
end
return {tostring(call('EXISTS', KEYS[1])), meta[1] or '', meta[2] or '', meta[3] or '',
    meta[4] or '', last, first, found, tostring(total), table.concat(counts, ' ')}
