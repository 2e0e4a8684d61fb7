--- @include "count"
--- @include "make_room"
-- Stops counting answers that have expired, at most 256 a call. Returns how many bytes they had.
local function forget_expired_answers(root, now)
  local answers, freed = root .. 'answers', 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', answers, '-inf', now, 'LIMIT', 0, 256)) do
    local bytes, id = string.match(member, '^(%d+) (.*)$')
    redis.call('ZREM', answers, member)
    if id and redis.call('EXISTS', root .. 'result:' .. id) == 0 then
      redis.call('HDEL', root .. 'askers', id)
      redis.call('HDEL', root .. 'digests', id)
    end
    freed = freed + (tonumber(bytes) or 0)
  end
  if freed > 0 then
    count(root, 'bytes', 0 - freed)
    make_room(root, 1)
  end
  return freed
end
