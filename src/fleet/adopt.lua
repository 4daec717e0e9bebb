-- SPDX-License-Identifier: MIT
-- A store that was filled under other names gets its own, in one step; only if there is none yet.
--
-- KEYS  meta, then pairs: a key as it was filled, and its own name; the hashes of nouns first
-- ARGV  how many pairs are those
-- Gives 1, or 0: there is a store already
if call('EXISTS', KEYS[1]) == 1 then
    return 0
end
for i = 1, tonumber(ARGV[1]) do
    if call('EXISTS', KEYS[2 * i + 1]) == 1 then
        return 0
    end
end
for i = 2, #KEYS, 2 do
    if call('EXISTS', KEYS[i]) == 1 then
        call('RENAME', KEYS[i], KEYS[i + 1])
        call('PERSIST', KEYS[i + 1])
    else
        call('DEL', KEYS[i + 1])
    end
end
return 1
