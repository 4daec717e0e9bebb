-- SPDX-License-Identifier: MIT
-- One request, all or nothing: everything is judged on an overlay of what is stored; only then it is
-- written. What can fail is asked before the first command that writes; that one (XADD) is refused by a
-- server that is full, read-only or cannot save, and the ones behind it cannot be refused any more.
--
-- KEYS  meta, stream, refs, secrets, fence, then a hash for each noun
-- ARGV  epoch, node, session, id, flags ("w"), entries and bytes of the stream, names of the nouns
--       (blanks between), how many changes, guards and companions, the revision that the caller has seen, then
--       for each change: noun, key, op (put, del, reseal), value, secret, secret mode (set, keep, none),
--                        condition ("", "*" there, "!" not there, or its revision), refs ("pool:web", TABs)
--       for each guard: argument count, arguments, expected
--       for each companion: argument count, arguments
-- Gives {"ok", revision, "n5 u5 s3 d5 r3 "} (created, replaced, same, deleted, resealed; a revision each) |
--       {"refused", revision, "INDEX KIND NUMBER "...} | {"epoch", epoch} (another, or it went back) |
--       {"fenced"} | {"empty"} | {"guard"}
local meta, stream, refs, secrets, fence = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

local function fail(text)
    return redis.error_reply(text)
end

-- ---- where we are ----

local place = call('HMGET', meta, 'epoch', 'revision', 'schema', 'stream_bytes')
if not place[1] and not place[2] then
    return {'empty'}
end
local revision = tonumber(place[2] or '')
if not place[1] or #place[1] ~= 16 or not string.match(place[2] or '', '^%d+$') or
    revision > 9007199254740991 then
    return fail('BROKEN ' .. meta .. ' holds no epoch and revision that can be read')
end
if place[3] and place[3] ~= '1' then
    return fail('BROKEN ' .. meta .. ' was written by a newer version')
end
-- Writes were lost when the caller has seen more: their revisions are not given again.
if place[1] ~= ARGV[1] or revision < tonumber(ARGV[12]) then
    return {'epoch', place[1]}
end
local session = call('HGET', fence, ARGV[2])
if session and (tonumber(session) or 0) > tonumber(ARGV[3]) then
    return {'fenced'}
end

local hashes = {}
local overlay = {}
do
    local at = 6
    for name in string.gmatch(ARGV[8], '%S+') do
        hashes[name] = KEYS[at]
        overlay[name] = {}
        at = at + 1
    end
end

local change_count, guard_count = tonumber(ARGV[9]), tonumber(ARGV[10])
local companion_count = tonumber(ARGV[11])
local first = 13
local at = first + 8 * change_count

-- ---- guards and companions ----

local function take_arguments()
    local arguments = {}
    local count = tonumber(ARGV[at])
    for i = 1, count do
        arguments[i] = ARGV[at + i]
    end
    at = at + count + 1
    return arguments
end

local function flatten(reply)
    if type(reply) == 'table' then
        if reply.ok then
            return reply.ok
        end
        local items = {}
        for i = 1, #reply do
            items[i] = (reply[i] and tostring(reply[i]) or '') .. '\0'
        end
        return table.concat(items)
    end
    return reply and tostring(reply) or ''
end

local guard_commands = {GET = 1, MGET = 1, STRLEN = 1, EXISTS = 1, TYPE = 1, HGET = 1, HMGET = 1,
    HGETALL = 1, HEXISTS = 1, HLEN = 1}
for _ = 1, guard_count do
    local arguments = take_arguments()
    if not guard_commands[arguments[1]] then
        return fail('ERR ' .. tostring(arguments[1]) .. ' cannot be a guard')
    end
    local reply = redis.pcall(unpack(arguments))
    if type(reply) == 'table' and reply.err then
        if not string.find(reply.err, 'WRONGTYPE', 1, true) then
            return reply
        end
        -- A key of another type has nothing of what is asked for, as if it were not there.
        reply = false
        if arguments[1] == 'HMGET' then
            reply = {}
            for i = 3, #arguments do
                reply[i - 2] = false
            end
        end
    end
    at = at + 1
    if flatten(reply) ~= ARGV[at - 1] then
        return {'guard'}
    end
end

local function may(command, ...)
    return not redis.acl_check_cmd or redis.acl_check_cmd(command, ...)
end

local companion_types = {SET = '', DEL = '', HSET = 'hash', HDEL = 'hash'}
local companions = {}
local kinds = {} -- of keys, as the companions before leave them
for i = 1, companion_count do
    local arguments = take_arguments()
    local wanted = companion_types[arguments[1]]
    if not wanted or #arguments < 2 then
        return fail('ERR ' .. tostring(arguments[1]) .. ' cannot go with a write')
    end
    if not may(unpack(arguments)) then
        return fail('NOPERM this user may not ' .. arguments[1] .. ' ' .. arguments[2])
    end
    local kind = kinds[arguments[2]] or call('TYPE', arguments[2]).ok
    if wanted ~= '' and kind ~= 'none' and kind ~= wanted then
        return fail('WRONGTYPE ' .. arguments[2] .. ' is a ' .. kind .. ', not a ' .. wanted)
    end
    if arguments[1] == 'DEL' then
        for j = 2, #arguments do
            kinds[arguments[j]] = 'none'
        end
    else
        kinds[arguments[2]] = wanted == '' and 'string' or wanted
    end
    companions[i] = arguments
end

-- ---- the overlay ----

-- secret: 'k' what is stored, '-' none, a table: this one
local function record_of(noun, key)
    local record = overlay[noun][key]
    if record then
        return record
    end
    local text = call('HGET', hashes[noun], key)
    record = {noun = noun, key = key, there = false, was = false, refs = '', old = '', secret = '-'}
    if text then
        record.there, record.was, record.secret = true, true, 'k'
        local line = string.find(text, '\n', 1, true)
        local rev, list = string.match(string.sub(text, 1, (line or 1) - 1), '^(%d+) (.*)$')
        -- One that somebody broke has no revision that anything matches, and can be replaced.
        record.revision, record.refs = rev or '0', list or ''
        record.old = record.refs
        record.value = line and string.sub(text, line + 1) or ''
    end
    overlay[noun][key] = record
    return record
end

local function has_secret(record)
    if record.secret == 'k' then
        return call('HEXISTS', secrets, record.noun .. ':' .. record.key) == 1
    end
    return record.secret ~= '-'
end

local refused = {}
local function refuse(index, kind, number)
    refused[#refused + 1] = (index - 1) .. ' ' .. kind .. ' ' .. number .. ' '
end

local function each_ref(list, visit)
    local number = 0
    for ref in string.gmatch(list, '[^\t]+') do
        visit(ref, number)
        number = number + 1
    end
end

local function distinct(list)
    if not string.find(list, '\t', 1, true) then
        return list
    end
    local seen, kept = {}, {}
    each_ref(list, function(ref)
        if not seen[ref] then
            seen[ref] = true
            kept[#kept + 1] = ref
        end
    end)
    return table.concat(kept, '\t')
end

-- ---- each change, in order ----

local new_revision = string.format('%.0f', revision + 1)
local results = {}
local order = {}   -- records that differ, in the order of their last change
local resealed = {}
local last = {}    -- the last change of each record that says something of its value
local bad = {}
local has_changed = false

local function check(record, op, condition)
    if op ~= 'put' and not record.there then
        return 'absent', '0'
    end
    if condition == '' then
        return nil
    end
    if condition == '!' then
        if record.there then
            return 'exists', '0'
        end
    elseif not record.there then
        return 'none', '0'
    elseif condition ~= '*' and condition ~= record.revision then
        return 'revision', record.revision
    end
    return nil
end

local function is_same(record, value, secret, mode)
    if not record.there or record.value ~= value then
        return false
    end
    return mode == 'keep' or has_secret(record) == (mode == 'set')
end

local function mark_changed(record)
    has_changed = true
    if record.changed then
        order[record.changed] = false
    end
    record.changed = #order + 1
    order[record.changed] = record
end

for index = 1, change_count do
    local base = first + 8 * (index - 1)
    local op, value, secret, mode = ARGV[base + 2], ARGV[base + 3], ARGV[base + 4], ARGV[base + 5]
    local record = record_of(ARGV[base], ARGV[base + 1])
    if op ~= 'reseal' then
        last[record] = index
    end
    local kind, number = check(record, op, ARGV[base + 6])
    if kind then
        bad[index] = true
        refuse(index, kind, number)
        results[index] = ''
    elseif op == 'reseal' then
        record.secret = {secret}
        resealed[#resealed + 1] = record
        results[index] = 'r' .. record.revision
    elseif op == 'del' then
        record.there, record.value, record.refs, record.secret = false, nil, '', '-'
        mark_changed(record)
        results[index] = 'd' .. new_revision
    elseif is_same(record, value, secret, mode) then
        results[index] = 's' .. record.revision
    else
        results[index] = (record.there and 'u' or 'n') .. new_revision
        if mode == 'set' then
            record.secret = {secret}
        elseif mode == 'none' then
            record.secret = '-'
        end
        record.there, record.value, record.revision = true, value, new_revision
        record.refs = distinct(ARGV[base + 7])
        mark_changed(record)
    end
end

-- ---- what must hold in the end ----

local delta = {}
for i = 1, #order do
    local record = order[i]
    if record and record.old ~= record.refs then
        each_ref(record.old, function(ref) delta[ref] = (delta[ref] or 0) - 1 end)
        each_ref(record.refs, function(ref) delta[ref] = (delta[ref] or 0) + 1 end)
    end
end

local function users(ref)
    return (tonumber(call('HGET', refs, ref) or '0') or 0) + (delta[ref] or 0)
end

for index = 1, change_count do
    local base = first + 8 * (index - 1)
    local record = overlay[ARGV[base]][ARGV[base + 1]]
    if not bad[index] and last[record] == index then
        if ARGV[base + 2] == 'del' then
            local count = users(record.noun .. ':' .. record.key)
            if count > 0 then
                refuse(index, 'used', string.format('%.0f', count))
            end
        else
            each_ref(ARGV[base + 7], function(ref, number)
                local colon = string.find(ref, ':', 1, true)
                local noun = string.sub(ref, 1, (colon or 1) - 1)
                if not overlay[noun] or not record_of(noun, string.sub(ref, colon + 1)).there then
                    refuse(index, 'dangling', number)
                end
            end)
        end
    end
end

local now = string.format('%.0f', revision)
if #refused > 0 then
    return {'refused', now, table.concat(refused)}
end
if has_changed and revision >= 9007199254740991 then
    return fail('BROKEN the revisions of ' .. meta .. ' are used up')
end

-- ---- what is to be written ----

local puts, drops = {}, {}
local function list_of(lists, key)
    if not lists[key] then
        lists[key] = {}
    end
    return lists[key]
end
local function put(key, field, value)
    local list = list_of(puts, key)
    list[#list + 1] = field
    list[#list + 1] = value
end
local function drop(key, field)
    local list = list_of(drops, key)
    list[#list + 1] = field
end

local function plan_secret(record)
    local field = record.noun .. ':' .. record.key
    if type(record.secret) == 'table' then
        put(secrets, field, record.secret[1])
    elseif record.secret == '-' and record.was then
        drop(secrets, field)
    end
end

local parts = {}
for i = 1, #order do
    local record = order[i]
    if record then
        local op, value, secret, len = '-', '', '', '-'
        if record.there then
            op, value = record.was and '=' or '+', record.value
            put(hashes[record.noun], record.key, record.revision .. ' ' .. record.refs .. '\n' .. value)
            if type(record.secret) == 'table' then
                secret = record.secret[1]
                len = #secret
            else
                len = record.secret
            end
        else
            drop(hashes[record.noun], record.key)
        end
        plan_secret(record)
        parts[#parts + 1] = op .. record.noun .. ' ' .. #record.key .. ' ' .. #value .. ' ' .. len .. '\n'
        parts[#parts + 1] = record.key
        parts[#parts + 1] = value
        parts[#parts + 1] = secret
    end
end
for i = 1, #resealed do
    if not resealed[i].changed and resealed[i].there then
        plan_secret(resealed[i])
    end
end
for ref, change in pairs(delta) do
    if change ~= 0 then
        local count = users(ref)
        if count > 0 then
            put(refs, ref, string.format('%.0f', count))
        else
            drop(refs, ref)
        end
    end
end

-- ---- may all of it be done? ----

-- Of the others the type is known: they were read.
if puts[secrets] or drops[secrets] then
    local kind = call('TYPE', secrets).ok
    if kind ~= 'none' and kind ~= 'hash' then
        return fail('WRONGTYPE ' .. secrets .. ' is a ' .. kind .. ', not a hash')
    end
end
if not may('HSET', meta, 'a', 'b') or not may('HDEL', meta, 'a') or
    not may('XTRIM', stream, 'MAXLEN', '1') then
    return fail('NOPERM this user may not HSET, HDEL or XTRIM')
end

-- ---- from here on nothing fails but the first command ----

if has_changed then
    local changes = table.concat(parts)
    local entry = {'XADD', stream, 'MAXLEN', '~', ARGV[6], '*', 'v', '1', 'k', 'write', 'e', ARGV[1],
        'r', new_revision, 'p', now, 't', ARGV[4], 'n', ARGV[2]}
    if ARGV[5] == 'w' then
        entry[#entry + 1] = 'w'
        entry[#entry + 1] = '1'
    end
    entry[#entry + 1] = 'c'
    entry[#entry + 1] = changes
    local added = redis.pcall(unpack(entry))
    if type(added) == 'table' and added.err then
        if string.find(added.err, '^WRONGTYPE') then
            return fail('WRONGTYPE ' .. stream .. ' is not a stream')
        end
        return added
    end
    -- Counted up, and measured when that goes over the bound: most of it may be trimmed by then.
    local bytes = (tonumber(place[4] or '') or 0) + #changes + 200
    if bytes > tonumber(ARGV[7]) then
        local real = redis.pcall('MEMORY', 'USAGE', stream)
        bytes = type(real) == 'number' and real or bytes
        if bytes > tonumber(ARGV[7]) then
            call('XTRIM', stream, 'MAXLEN', math.ceil(call('XLEN', stream) / 2))
            bytes = bytes / 2
        end
    end
    call('HSET', meta, 'revision', new_revision, 'tag', ARGV[4], 'stream_bytes',
        string.format('%.0f', bytes))
end

local function in_blocks(command, lists)
    for key, list in pairs(lists) do
        for from = 1, #list, 2000 do
            call(command, key, unpack(list, from, math.min(from + 1999, #list)))
        end
    end
end
in_blocks('HSET', puts)
in_blocks('HDEL', drops)
for i = 1, companion_count do
    call(unpack(companions[i]))
end
return {'ok', has_changed and new_revision or now, table.concat(results, ' ')}
