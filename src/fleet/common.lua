-- SPDX-License-Identifier: MIT
-- In front of every script: redis.call(), but an error of a key's type says which key it is.
local function call(command, ...)
    local reply = redis.pcall(command, ...)
    if type(reply) == 'table' and reply.err then
        if string.find(reply.err, '^WRONGTYPE') then
            local key = ...
            local kind = redis.call('TYPE', key).ok
            error({err = 'WRONGTYPE ' .. key .. ' is a ' .. kind .. ', which is none of this store'})
        end
        error(reply)
    end
    return reply
end
