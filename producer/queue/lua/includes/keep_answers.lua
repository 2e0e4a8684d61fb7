--- @include "extend_life"
-- Registers answers that have just been put under `result:<id>`. Each ends after its `kept_ms`, and until then its
-- `bytes` count, unless it is consumed. `asks` is how many asked for it: each may consume it, and the last one deletes
-- it. `digest` is that of the request; a name that is not the digest stays in use for as long as the answer is kept.
-- Returns by how many bytes the answers kept have become more.
local function keep_answers(root, kept, now)
  local answers, members, ends, added = root .. 'answers', {}, {}, 0
  for place, answer in ipairs(kept) do
    members[place] = answer.bytes .. ' ' .. answer.id
    ends[2 * place - 1], ends[2 * place] = now + answer.kept_ms, members[place]
    if (answer.asks or 1) > 1 then
      redis.call('HSET', root .. 'askers', answer.id, answer.asks)
      extend_life(root .. 'askers')
    end
    if answer.digest and answer.digest ~= answer.id then
      redis.call('HSET', root .. 'digests', answer.id, answer.digest)
      extend_life(root .. 'digests')
    end
  end
  local known = redis.call('ZMSCORE', answers, unpack(members)) -- of the same job, expired and not yet forgotten
  for place, answer in ipairs(kept) do
    if not known[place] then added = added + answer.bytes end
  end
  redis.call('ZADD', answers, unpack(ends))
  extend_life(answers)
  return added
end
