--- @include "count"
--- @include "hash_fields"
--- @include "keep_answer"
--- @include "server_time"
--- @include "whole"
-- Makes the staged result of a job visible, takes the job off the queue and notifies its clients, provided that
-- `token` still owns the job. The job's hash and request are left to the caller. `keep_ms` is how long the result
-- is kept, '' for as long as the job asked for; `outcome` the counter to increment.
-- Returns whether it did.
local function publish_result(root, id, token, staging_token, keep_ms, outcome)
  local staged, result = root .. 'staged:' .. staging_token, root .. 'result:' .. id
  local fields = hash_fields(root .. 'job:' .. id, 'token', 'bytes', 'keep', 'asks', 'digest')
  local bytes = redis.call('STRLEN', staged)
  if fields[1] ~= token or bytes == 0 then
    redis.call('UNLINK', staged)
    return false
  end
  local kept_ms = math.max(1, whole(keep_ms == '' and fields[3] or keep_ms) or 60000)
  redis.call('RENAME', staged, result)
  redis.call('ZREM', root .. 'leases', id)
  local answer = {kept_ms = kept_ms, bytes = bytes, asks = whole(fields[4]), digest = fields[5]}
  count(root, 'bytes', keep_answer(root, id, answer, server_time()) - (whole(fields[2]) or 0))
  count(root, outcome, 1)
  redis.call('PUBLISH', root .. 'notifications', id)
  return true
end
