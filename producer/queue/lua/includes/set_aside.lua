--- @include "count"
--- @include "hash_fields"
--- @include "keep_answers"
--- @include "keep_dead_letter"
--- @include "notify"
--- @include "server_time"
-- Takes an entry off the queue that is not a job: whoever asks for it gets `malformed.result`, and what there is of it
-- is kept as a dead letter, so that it stops nobody. `malformed` also has code and message.
local function set_aside(root, id, malformed, limits)
  local job, request = root .. 'job:' .. id, root .. 'request:' .. id
  local name = id
  if #id > 256 or string.find(id, '[^\33-\126]') then name = 'malformed-' .. redis.sha1hex(id) end
  local clients = hash_fields(job, 'clients')[1] or ''
  redis.call('ZREM', root .. 'pending', id)
  redis.call('ZREM', root .. 'leases', id)
  redis.call('UNLINK', job, root .. 'dead:' .. name, root .. 'dead-request:' .. name)
  redis.call('SET', root .. 'result:' .. id, malformed.result, 'PX', malformed.keep_ms)
  local answer = {id = id, kept_ms = malformed.keep_ms, bytes = #malformed.result}
  count(root, 'bytes', keep_answers(root, {answer}, server_time()))
  if redis.call('EXISTS', request) == 1 then redis.call('RENAME', request, root .. 'dead-request:' .. name) end
  redis.call('HSET', root .. 'dead:' .. name, 'bytes', 0, 'texts', 0)
  keep_dead_letter(root, name, {code = malformed.code, message = malformed.message, tries = 0}, limits)
  count(root, 'failed', 1)
  notify(root, {{id = id, clients = clients}})
end
