--- @include "count"
-- Deletes an answer for all who asked for it, and what is known of it.
local function forget_answer(root, id)
  local result = root .. 'result:' .. id
  local bytes = redis.pcall('STRLEN', result) -- a table if it is of another type
  redis.call('UNLINK', result)
  redis.call('HDEL', root .. 'askers', id)
  redis.call('HDEL', root .. 'digests', id)
  if type(bytes) == 'number' and redis.call('ZREM', root .. 'answers', bytes .. ' ' .. id) == 1 then
    count(root, 'bytes', 0 - bytes)
  end
end
