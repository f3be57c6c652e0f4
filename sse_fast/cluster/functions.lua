#!lua name=sse_fast_VERSION
-- The log of a fleet: what is to happen at once, on whichever server is asked, is done here.
--
-- KEYS  1 log      the stream. An entry is `<epoch>-<position>`, with its time (t, ms) and one of
--                    e  an event      f  a channel is forgotten      m  the mark that begins an epoch (at position 0), after
--                                     what entry; '' if it has no past
--       2 state    a hash: whose the log is, limits, what is counted
--       3 cuts     a list, the oldest first: "<id of a segment's last entry> <bytes up to there> <time of it>"
--       4, 5       hashes of idempotency keys, by turns: digest -> digest of the event, time, epoch, position
--       6 nodes    a hash: name -> until when it is one (ms), what it says of itself
--
-- Fence. A server begins another past when it starts, and when it becomes the primary; with each it takes a new
-- `master_replid`. (`run_id` would not do: a primary that is demoted, loses what it had alone, and is made the primary
-- again, is one process.) Where that is not the one that the log was last appended to under, an epoch begins with a mark.
-- It takes a new one, too, when it gets its first replica, and when it has had none for an hour (`repl-backlog-ttl`); then
-- it has no second one, as who was promoted has, for that hour. So a process that was seen within a minute, and has none,
-- has been the primary ever since.
--
-- Two may be the primary at once, and the one whose past has been given up may be made the primary again before it has
-- heard of the other: it has the `master_replid` that it had. So whoever looks says the newest epoch that it knows of, and
-- one that is newer than the log's is followed by another.
--
-- All or nothing. There is no rollback: so all that can be refused is looked at before the first write, and `prove` writes
-- nothing with every command that is used later.

local LAYOUT = '1'
local MARGIN = 64              -- bytes of an entry beside its event, about
local SEGMENTS = 1024          -- of the log: it is trimmed by one
local NODES = 1000
local SEEN, LATELY = 5000, 60000
local NONE = '0000000000000000000000000000000000000000'

local function refuse(what)
    return redis.error_reply('SSEFAST ' .. what)
end

local function now_ms()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function number(value)   -- a whole one, as text; never 1.7e+12
    return string.format('%.0f', value)
end

local function last_of(log)
    local info = redis.call('XINFO', 'STREAM', log)
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then
            local epoch, position = string.match(info[i + 1], '^(%d+)-(%d+)$')
            return tonumber(epoch), tonumber(position)
        end
    end
end

-- Whether what is under our keys is ours; nil, or what is wrong. Where there is no state: a server was emptied, it is the
-- first time, or somebody else's.
local function foreign(keys)
    local kinds = {'stream', 'hash', 'list', 'hash', 'hash', 'hash'}
    for i, kind in ipairs(kinds) do
        local found = redis.call('TYPE', keys[i]).ok
        if found ~= 'none' and found ~= kind then
            return 'FOREIGN ' .. keys[i] .. ' is a ' .. found
        end
    end
    local last = redis.call('XREVRANGE', keys[1], '+', '-', 'COUNT', 1)[1]
    if last and not (last[2][1] == 't' and #last[2] == 4 and string.find(last[2][3], '^[efm]$')) then
        return 'FOREIGN ' .. keys[1] .. ' is a stream of something else'
    end
    if redis.call('EXISTS', keys[2]) == 1 then
        return 'FOREIGN ' .. keys[2] .. ' is a hash of something else'
    end
end

local function process()
    return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

local function begin(keys, state, server, now, known)
    local prev = ''
    local epoch = math.max(now, (tonumber(state.epoch) or 0) + 1, known + 1)
    if redis.call('EXISTS', keys[1]) == 1 then
        local before, position = last_of(keys[1])
        prev = number(before) .. '-' .. number(position)
        epoch = math.max(epoch, before + 1)
    end
    if prev == '' or not state.epoch then
        redis.call('DEL', keys[3])
        state.bytes, state.base, state.cut_bytes, state.cut_time = 0, 0, 0, now
        redis.call('HSET', keys[2], 'bytes', 0, 'base', 0, 'cut_bytes', 0, 'cut_time', number(now))
        if prev ~= '' then     -- of what size nobody knows: one segment
            redis.call('RPUSH', keys[3], prev .. ' 0 ' .. number(now))
        end
    end
    state.epoch = number(epoch)
    redis.call('HSET', keys[2], 'layout', LAYOUT, 'epoch', state.epoch, 'server', server, 'process', process(),
        'seen', number(now))
    redis.call('XADD', keys[1], state.epoch .. '-0', 't', number(now), 'm', prev)
end

-- The state, in the epoch that holds on this server, which is begun if it has to be; or nil and what is wrong. `known`: the
-- newest epoch that somebody else knows of, or 0.
local function fence(keys, now, known)
    local info = redis.call('INFO', 'replication')
    if not string.find(info, 'role:master', 1, true) then
        return nil, refuse('REPLICA')
    end
    local at = string.find(info, 'master_replid:', 1, true) + 14
    local server = string.sub(info, at, at + 39)
    local had = redis.call('HMGET', keys[2], 'layout', 'epoch', 'server', 'base', 'cut_bytes', 'cut_time', 'max_bytes',
        'max_age', 'window', 'keys', 'generation', 'since', 'bytes', 'seen')
    local state = {
        layout = had[1], epoch = had[2], server = had[3], base = had[4], cut_bytes = had[5], cut_time = had[6],
        max_bytes = tonumber(had[7] or 2^30), max_age = tonumber(had[8] or 0),
        window = tonumber(had[9] or 120000), keys = tonumber(had[10] or 131072),
        generation = tonumber(had[11] or 0), since = tonumber(had[12] or 0), bytes = had[13],
        limited = had[7],
    }
    if not state.layout then
        local wrong = foreign(keys)
        if wrong then
            return nil, refuse(wrong)
        end
    elseif state.layout ~= LAYOUT then
        return nil, refuse('LAYOUT ' .. state.layout)
    end
    local seen = tonumber(had[14] or 0)
    if redis.call('EXISTS', keys[1]) == 0 then
        begin(keys, state, server, now, known)
    elseif known > tonumber(state.epoch or 0) then
        begin(keys, state, server, now, known)
    elseif state.server ~= server then
        local never = string.find(info, 'master_replid2:' .. NONE, 1, true) and math.abs(now - seen) < LATELY
        if state.server and never and redis.call('HGET', keys[2], 'process') == process() then
            redis.call('HSET', keys[2], 'server', server)
        else
            begin(keys, state, server, now, known)
        end
    elseif math.abs(now - seen) > SEEN then
        redis.call('HSET', keys[2], 'seen', number(now))
    end
    return state
end

-- After something was appended, or time has passed. Bytes go up for ever; a segment is what came between two cuts.
local function trim(keys, state, now, epoch, position)
    local bytes, base = tonumber(state.bytes), tonumber(state.base)
    local cut_bytes, cut_time = tonumber(state.cut_bytes), tonumber(state.cut_time)
    local due = bytes - cut_bytes >= state.max_bytes / SEGMENTS
    if not due and state.max_age > 0 and bytes > cut_bytes then
        due = now - cut_time >= state.max_age / SEGMENTS
    end
    if due then
        if not position then
            epoch, position = last_of(keys[1])
        end
        redis.call('RPUSH', keys[3], number(epoch) .. '-' .. number(position) .. ' ' .. number(bytes) .. ' ' .. number(now))
        redis.call('HSET', keys[2], 'cut_bytes', number(bytes), 'cut_time', number(now))
    elseif position then
        return                 -- the usual publication
    end
    local beyond
    while true do
        local oldest = redis.call('LINDEX', keys[3], 0)
        if not oldest then
            break
        end
        local at, place, total, time = string.match(oldest, '^(%d+)-(%d+) (%d+) (%d+)$')
        local old = state.max_age > 0 and tonumber(time) < now - state.max_age
        if not old and bytes - base <= state.max_bytes then
            break
        end
        beyond, base = at .. '-' .. number(tonumber(place) + 1), tonumber(total)
        redis.call('LPOP', keys[3])
    end
    if beyond then
        redis.call('XTRIM', keys[1], 'MINID', '=', beyond)
        redis.call('HSET', keys[2], 'base', number(base))
    end
end

-- ---- idempotency keys ----

local function remembered(keys, state, now, key)
    local found = redis.call('HGET', keys[4 + state.generation], key) or redis.call('HGET', keys[5 - state.generation], key)
    if not found then
        return nil
    end
    local time, epoch, position = string.match(found, '^(%d+) (%d+) (%d+)$', 17)
    if now - tonumber(time) >= state.window then
        return nil
    end
    return string.sub(found, 1, 16), epoch, tonumber(position)
end

local function remember(keys, state, now, key, body, position)
    local current = keys[4 + state.generation]
    if now - state.since >= state.window or redis.call('HLEN', current) >= state.keys then
        state.generation, state.since = 1 - state.generation, now
        current = keys[4 + state.generation]
        redis.call('UNLINK', current)
        redis.call('HSET', keys[2], 'generation', state.generation, 'since', number(now))
    end
    redis.call('HSET', current, key, body .. number(now) .. ' ' .. state.epoch .. ' ' .. number(position))
end

-- ---- publish: groups, each of which is all or nothing ----
--
-- ARGV: groups of
--    e<n>  n times: an event
--    f1    an event: forget its channel
--    b<n>  a key and the digest of all (32 bytes), n times: an event
--    k<n>  n times: a key and a digest (32 bytes) or '', an event
-- Returns {epoch, of each group: the first position
--                                | b: '<epoch>-<first position>' of the first time, or -1: another body had this key
--                                | k: a list of positions and ids of the first time, or -place: (from 1) whose key had another}

local function publish(keys, argv)
    local now = now_ms()
    local state, wrong = fence(keys, now, 0)
    if wrong then
        return wrong
    end
    local log, star, time = keys[1], state.epoch .. '-*', number(now)
    local answers, bytes, position = {state.epoch}, 0, nil
    local function append(kind, event)
        local id = redis.call('XADD', log, star, 't', time, kind, event)
        bytes = bytes + #event + MARGIN
        position = tonumber(string.sub(id, #state.epoch + 2))
        return position
    end
    local i = 1
    while i <= #argv do
        local kind, count = string.sub(argv[i], 1, 1), tonumber(string.sub(argv[i], 2))
        i = i + 1
        local answer
        if kind == 'b' then
            local key, body = string.sub(argv[i], 1, 16), string.sub(argv[i], 17)
            i = i + 1
            local was, epoch, first = remembered(keys, state, now, key)
            if was == body then
                answer = epoch .. '-' .. number(first)
            elseif was then
                answer = -1
            else
                for j = i, i + count - 1 do
                    local at = append('e', argv[j])
                    answer = answer or at
                end
                remember(keys, state, now, key, body, answer)
            end
            i = i + count
        elseif kind == 'k' then
            answer = {}
            for j = 0, count - 1 do
                local key = argv[i + 2 * j]
                if key ~= '' then
                    local was, epoch, first = remembered(keys, state, now, string.sub(key, 1, 16))
                    if was and was ~= string.sub(key, 17) then
                        answer = -1 - j
                        break
                    end
                    answer[j + 1] = was and epoch .. '-' .. number(first) or 0
                else
                    answer[j + 1] = 0
                end
            end
            if type(answer) == 'table' then
                for j = 0, count - 1 do
                    if answer[j + 1] == 0 then
                        local key = argv[i + 2 * j]
                        answer[j + 1] = append('e', argv[i + 2 * j + 1])
                        if key ~= '' then
                            remember(keys, state, now, string.sub(key, 1, 16), string.sub(key, 17), answer[j + 1])
                        end
                    end
                end
            end
            i = i + 2 * count
        else
            for j = i, i + count - 1 do
                local at = append(kind, argv[j])
                answer = answer or at
            end
            i = i + count
        end
        answers[#answers + 1] = answer
    end
    -- Of a repetition, too, which has to be waited for on the replicas like the first: WAIT is for what this
    -- connection wrote last.
    state.bytes = redis.call('HINCRBY', keys[2], 'bytes', number(bytes))
    if position then
        trim(keys, state, now, tonumber(state.epoch), position)
    end
    return answers
end

-- ---- what nodes do beside ----

-- {epoch, the id of the last entry, entries, bytes}
local function report(keys, state)
    local epoch, position = last_of(keys[1])
    return {state.epoch, number(epoch) .. '-' .. number(position), redis.call('XLEN', keys[1]),
        tonumber(state.bytes) - tonumber(redis.call('HGET', keys[2], 'base'))}
end

-- Whoever may not do something is told now, and not in the middle of a batch: what, or nil.
local function prove(keys)
    local probe = keys[2] .. ':probe'
    local commands = {
        {'TIME'}, {'INFO', 'replication'}, {'TYPE', probe}, {'EXISTS', probe}, {'XINFO', 'STREAM', probe},
        {'XADD', probe, 'NOMKSTREAM', '*', 'm', ''}, {'XTRIM', probe, 'MINID', '=', '0-1'}, {'XLEN', probe},
        {'XREVRANGE', probe, '+', '-', 'COUNT', 1},
        {'HSET', probe, 'm', 0}, {'HINCRBY', probe, 'm', 1}, {'HLEN', probe}, {'HGET', probe, ''}, {'HMGET', probe, ''},
        {'HGETALL', probe}, {'HDEL', probe, ''},
        {'DEL', probe},
        {'RPUSH', probe, ''}, {'LLEN', probe}, {'LINDEX', probe, 0}, {'LPOP', probe},
        {'UNLINK', probe},
    }
    for _, command in ipairs(commands) do
        local answer = redis.pcall(unpack(command))
        local wrong = type(answer) == 'table' and answer.err
        if wrong and not string.find(wrong, 'no such key', 1, true) then
            redis.pcall('DEL', probe)
            return refuse('DENIED ' .. command[1] .. ': ' .. wrong)
        end
    end
end

local function limit(keys, state, argv)
    if #argv == 5 then
        redis.call('HSET', keys[2], 'max_bytes', argv[2], 'max_age', argv[3], 'window', argv[4], 'keys', argv[5])
        state.max_bytes, state.max_age = tonumber(argv[2]), tonumber(argv[3])
        state.window, state.keys = tonumber(argv[4]), tonumber(argv[5])
        state.limited = true
    end
end

-- ARGV: the newest epoch that is known, or 0; max_bytes, max_age, window, keys of the fleet's nodes, or none, of who only
-- publishes.
local function open(keys, argv)
    local denied = prove(keys)
    if denied then
        return denied
    end
    local now = now_ms()
    local state, wrong = fence(keys, now, tonumber(argv[1]))
    if wrong then
        return wrong
    end
    limit(keys, state, argv)
    redis.call('HINCRBY', keys[2], 'bytes', 0)
    trim(keys, state, now)
    local said = report(keys, state)
    said[5], said[6] = state.max_bytes, state.window
    return said
end

-- ARGV: as of `open`. They hold where there are none: somebody has deleted the state.
local function tend(keys, argv)
    local now = now_ms()
    local state, wrong = fence(keys, now, tonumber(argv[1]))
    if wrong then
        return wrong
    end
    if not state.limited then
        limit(keys, state, argv)
    end
    trim(keys, state, now)
    return report(keys, state)
end

-- ARGV: bytes. The id of the entry behind which about the newest so many are; '' if that is all.
local function window(keys, argv)
    local state = redis.call('HMGET', keys[2], 'bytes', 'cut_bytes')
    local from, found = tonumber(state[1] or 0) - tonumber(argv[1]), ''
    local low, high = 0, redis.call('LLEN', keys[3]) - 1
    while low <= high do       -- the newest cut that is not beyond `from`
        local middle = math.floor((low + high) / 2)
        local id, total = string.match(redis.call('LINDEX', keys[3], middle), '^(%S+) (%d+) ')
        if tonumber(total) <= from then
            found, low = id, middle + 1
        else
            high = middle - 1
        end
    end
    return found
end

-- The nodes that are there, and no others any more: name, words, name, words ...
local function nodes(keys)
    local now, all, found = now_ms(), redis.call('HGETALL', keys[6]), {}
    for i = 1, #all, 2 do
        local till, words = string.match(all[i + 1], '^(%d+) (.*)$')
        if tonumber(till or 0) > now then
            found[#found + 1], found[#found + 2] = all[i], words
        else
            redis.call('HDEL', keys[6], all[i])
        end
    end
    return found
end

-- ARGV: a node's name, what it says, for how many ms.
local function here(keys, argv)
    local many = redis.call('HLEN', keys[6]) >= NODES and not redis.call('HGET', keys[6], argv[1])
    if many and #nodes(keys) >= 2 * NODES then
        return 0
    end
    redis.call('HSET', keys[6], argv[1], number(now_ms() + tonumber(argv[3])) .. ' ' .. argv[2])
    return 1
end

redis.register_function{function_name = 'publish_VERSION', callback = publish}
redis.register_function{function_name = 'open_VERSION', callback = open, flags = {'allow-oom'}}
redis.register_function{function_name = 'tend_VERSION', callback = tend, flags = {'allow-oom'}}
redis.register_function{function_name = 'here_VERSION', callback = here}
redis.register_function{function_name = 'nodes_VERSION', callback = nodes, flags = {'allow-oom'}}
redis.register_function{function_name = 'window_VERSION', callback = window, flags = {'no-writes', 'allow-oom'}}
