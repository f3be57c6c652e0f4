
-- ---- what nodes ask each other ----
--
-- KEYS  7 answers    a hash: '<question> <node>' -> until when it is kept (ms), the answer

local ANSWERS = 4096

-- ARGV: a question, a node, its answer, for how many ms. 0: too many are kept.
local function answer(keys, argv)
    local now = now_ms()
    if redis.call('HLEN', keys[7]) >= ANSWERS then
        local all = redis.call('HGETALL', keys[7])
        for i = 1, #all, 2 do
            if tonumber(string.match(all[i + 1], '^%d+')) <= now then
                redis.call('HDEL', keys[7], all[i])
            end
        end
        if redis.call('HLEN', keys[7]) >= ANSWERS then
            return 0
        end
    end
    redis.call('HSET', keys[7], argv[1] .. ' ' .. argv[2], number(now + tonumber(argv[4])) .. ' ' .. argv[3])
    return 1
end

-- ARGV: a question, nodes. What each has answered, '' where it has not; once all have nothing of it is kept.
local function answers(keys, argv)
    local found, whole = {}, true
    for i = 2, #argv do
        local said = redis.call('HGET', keys[7], argv[1] .. ' ' .. argv[i])
        whole = whole and said
        found[#found + 1] = said and string.match(said, '^%d+ (.*)$') or ''
    end
    if whole then
        for i = 2, #argv do
            redis.call('HDEL', keys[7], argv[1] .. ' ' .. argv[i])
        end
    end
    return found
end

redis.register_function{function_name = 'answer_VERSION', callback = answer}
redis.register_function{function_name = 'answers_VERSION', callback = answers, flags = {'allow-oom'}}
