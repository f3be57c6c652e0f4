
-- ---- who is there ----
--
-- Each node says who is there at it; who comes to the first of them joins, who leaves the last one leaves, and the event of
-- that is appended at once with it. A member is `<channel>\0<user>`.
--
-- KEYS  7 presence   a hash: when any node was heard last (last); since when they are heard again (since); and by a node's
--                    name the number of what it said last; and when somebody began to look after a dead one (reaping)
--       8 who        a hash: member -> at how many nodes it is, and since when (ms)
--       9 names      the members in their order
--      10 nodes      until when each node is there
--      11 at         the members at one node, in their order

local MEMBERS = 1000000
local REAPING = 2000           -- ms that one node is left to look after a dead one
local HOLE = 3 / 8             -- of a lease in which no node was heard: the server was away, and not the nodes

local function expired(keys, now, node, lease)
    local till = tonumber(redis.call('ZSCORE', keys[10], node) or now + 1)
    return till <= now and now >= tonumber(redis.call('HGET', keys[7], 'since') or now) + lease
end

-- ARGV from the `i`th on: '+' or '-', a member, the event, '' for none. Returns whether one was left out.
local function change(keys, argv, i, state, now)
    local bytes, position, full = 0, nil, 0
    local function append(event)
        if event == '' then
            return
        end
        local id = redis.call('XADD', keys[1], state.epoch .. '-*', 't', number(now), 'e', event)
        bytes = bytes + #event + MARGIN
        position = tonumber(string.sub(id, #state.epoch + 2))
    end
    while i <= #argv do
        local member = argv[i + 1]
        local count, since = string.match(redis.call('HGET', keys[8], member) or '0 0', '^(%d+) (%d+)$')
        count = tonumber(count)
        if argv[i] == '+' then
            if count == 0 and redis.call('HLEN', keys[8]) >= MEMBERS then
                full = 1
            elseif redis.call('ZADD', keys[11], 0, member) == 1 then
                if count == 0 then
                    since = number(now)
                    redis.call('ZADD', keys[9], 0, member)
                    append(argv[i + 2])
                end
                redis.call('HSET', keys[8], member, number(count + 1) .. ' ' .. since)
            end
        elseif redis.call('ZREM', keys[11], member) == 1 then
            if count > 1 then
                redis.call('HSET', keys[8], member, number(count - 1) .. ' ' .. since)
            else
                redis.call('HDEL', keys[8], member)
                redis.call('ZREM', keys[9], member)
                append(argv[i + 2])
            end
        end
        i = i + 3
    end
    if position then
        state.bytes = redis.call('HINCRBY', keys[2], 'bytes', number(bytes))
        trim(keys, state, now, tonumber(state.epoch), position)
    end
    return full
end

-- ARGV: a node; the number of what it said last, -1: nothing; for how many ms it is there; then as of `change`. Returns
-- {1, the number of this, whether one was left out, a node that is no more or ''}; or {0} where something else was said last.
local function present(keys, argv)
    local now, node, lease = now_ms(), argv[1], tonumber(argv[3])
    local state, wrong = fence(keys, now, 0)
    if wrong then
        return wrong
    end
    local had = redis.call('HMGET', keys[7], 'last', 'since', '=' .. node, 'reaping')
    local said = tonumber(had[3] or -1)
    if math.abs(now - tonumber(had[1] or 0)) > HOLE * lease or not had[2] then
        redis.call('HSET', keys[7], 'since', number(now))
    end
    redis.call('HSET', keys[7], 'last', number(now))
    if said ~= tonumber(argv[2]) then
        return {0}
    end
    local full = 0
    if #argv > 3 or said < 0 then
        full = change(keys, argv, 4, state, now)
        said = math.max(said + 1, now)
        redis.call('HSET', keys[7], '=' .. node, number(said))
    end
    redis.call('ZADD', keys[10], number(now + lease), node)
    local dead = redis.call('ZRANGEBYSCORE', keys[10], '-inf', number(now), 'LIMIT', 0, 1)[1]
    if dead and expired(keys, now, dead, lease) and now - tonumber(had[4] or 0) > REAPING then
        redis.call('HSET', keys[7], 'reaping', number(now))
    else
        dead = nil
    end
    return {1, number(said), full, dead or ''}
end

-- ARGV: a node, a member or '', how many. The number of what this node said last, and those of its members behind that one.
local function present_at(keys, argv)
    local after = argv[2] == '' and '-' or '(' .. argv[2]
    return {tonumber(redis.call('HGET', keys[7], '=' .. argv[1]) or -1),
        redis.call('ZRANGEBYLEX', keys[11], after, '+', 'LIMIT', 0, argv[3])}
end

-- ARGV: a node that is no more; its lease; as of `change`: who leaves with it.
local function present_no_more(keys, argv)
    local now, node = now_ms(), argv[1]
    local state, wrong = fence(keys, now, 0)
    if wrong then
        return wrong
    end
    if not expired(keys, now, node, tonumber(argv[2])) then
        return 0
    end
    redis.call('HDEL', keys[7], '=' .. node)
    change(keys, argv, 3, state, now)
    if redis.call('ZCARD', keys[11]) == 0 then
        redis.call('ZREM', keys[10], node)
    end
    return 1
end

-- ARGV: a channel with its \0, a user or '', how many. How many are there; and some behind that one: user, since ...
local function who(keys, argv)
    local first, behind = '[' .. argv[1], '(' .. string.sub(argv[1], 1, -2) .. '\1'
    local found = {redis.call('ZLEXCOUNT', keys[9], first, behind)}
    local from = argv[2] == '' and first or '(' .. argv[1] .. argv[2]
    for _, member in ipairs(redis.call('ZRANGEBYLEX', keys[9], from, behind, 'LIMIT', 0, argv[3])) do
        found[#found + 1] = string.sub(member, #argv[1] + 1)
        found[#found + 1] = string.match(redis.call('HGET', keys[8], member) or '0 0', '(%d+)$')
    end
    return found
end

redis.register_function{function_name = 'present_VERSION', callback = present}
redis.register_function{function_name = 'present_at_VERSION', callback = present_at, flags = {'no-writes', 'allow-oom'}}
redis.register_function{function_name = 'present_no_more_VERSION', callback = present_no_more}
redis.register_function{function_name = 'who_VERSION', callback = who, flags = {'no-writes', 'allow-oom'}}
