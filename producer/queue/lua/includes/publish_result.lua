--- @include "count"
--- @include "hash_fields"
--- @include "whole"
-- Makes the staged result of a job visible, takes the job off the queue and notifies its clients, provided that
-- `token` still owns the job. The job's hash and request are left to the caller. `keep_ms` is how long the result
-- is kept, '' for as long as the job asked for; `outcome` the counter to increment.
-- Returns whether it did.
local function publish_result(root, id, token, staging_token, keep_ms, outcome)
  local staged, result = root .. 'staged:' .. staging_token, root .. 'result:' .. id
  local fields = hash_fields(root .. 'job:' .. id, 'token', 'bytes', 'keep')
  if fields[1] ~= token or redis.call('EXISTS', staged) == 0 then
    redis.call('UNLINK', staged)
    return false
  end
  local kept_ms = whole(keep_ms == '' and fields[3] or keep_ms) or 60000
  redis.call('RENAME', staged, result)
  redis.call('PEXPIRE', result, math.max(1, kept_ms))
  redis.call('ZREM', root .. 'leases', id)
  count(root, 'bytes', 0 - (whole(fields[2]) or 0))
  count(root, outcome, 1)
  redis.call('PUBLISH', root .. 'notifications', id)
  return true
end
