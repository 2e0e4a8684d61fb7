--- @include "count"
--- @include "keep_answer"
--- @include "keep_dead_letter"
--- @include "server_time"
-- Takes an entry off the queue that is not a job: whoever asks for it gets `malformed.result`, and what there is of it
-- is kept as a dead letter, so that it stops nobody. `malformed` also has code and message.
local function set_aside(root, id, malformed, limits)
  local job, request = root .. 'job:' .. id, root .. 'request:' .. id
  local name = id
  if #id > 256 or string.find(id, '[^\33-\126]') then name = 'malformed-' .. redis.sha1hex(id) end
  redis.call('ZREM', root .. 'pending', id)
  redis.call('ZREM', root .. 'leases', id)
  redis.call('UNLINK', job, root .. 'dead:' .. name, root .. 'dead-request:' .. name)
  redis.call('SET', root .. 'result:' .. id, malformed.result)
  local answer = {kept_ms = malformed.keep_ms, bytes = #malformed.result}
  count(root, 'bytes', keep_answer(root, id, answer, server_time()))
  if redis.call('EXISTS', request) == 1 then redis.call('RENAME', request, root .. 'dead-request:' .. name) end
  redis.call('HSET', root .. 'dead:' .. name, 'bytes', 0, 'texts', 0)
  keep_dead_letter(root, name, {code = malformed.code, message = malformed.message, tries = 0}, limits)
  count(root, 'failed', 1)
  redis.call('PUBLISH', root .. 'notifications', id)
end
