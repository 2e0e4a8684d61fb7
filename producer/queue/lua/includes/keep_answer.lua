--- @include "extend_life"
-- Registers the answer that has just been put under `result:<id>`. It ends after `answer.kept_ms`, and until then its
-- `bytes` count, unless it is consumed. `asks` is how many asked for it: each may consume it, and the last one deletes
-- it. `digest` is that of the request; a name that is not the digest stays in use for as long as the answer is kept.
local function keep_answer(root, id, answer, now)
  local answers = root .. 'answers'
  redis.call('PEXPIRE', root .. 'result:' .. id, answer.kept_ms)
  local is_new = redis.call('ZADD', answers, now + answer.kept_ms, answer.bytes .. ' ' .. id) == 1
  extend_life(answers)
  if (answer.asks or 1) > 1 then
    redis.call('HSET', root .. 'askers', id, answer.asks)
    extend_life(root .. 'askers')
  end
  if answer.digest and answer.digest ~= id then
    redis.call('HSET', root .. 'digests', id, answer.digest)
    extend_life(root .. 'digests')
  end
  return is_new and answer.bytes or 0
end
