--- @include "count"
--- @include "hash_fields"
--- @include "keep_answer"
--- @include "whole"
-- Ends a pending or leased job with an answer that no worker wrote: `answer` has result, kept_ms, and outcome, the
-- counter to increment. Returns whether the job was on the queue.
local function end_job(root, id, answer, now)
  local job = root .. 'job:' .. id
  if redis.call('ZREM', root .. 'pending', id) + redis.call('ZREM', root .. 'leases', id) == 0 then return false end
  local fields = hash_fields(job, 'bytes', 'asks', 'digest')
  redis.call('SET', root .. 'result:' .. id, answer.result)
  local kept = {kept_ms = answer.kept_ms, bytes = #answer.result, asks = whole(fields[2]), digest = fields[3]}
  count(root, 'bytes', keep_answer(root, id, kept, now) - (whole(fields[1]) or 0))
  count(root, answer.outcome, 1)
  redis.call('UNLINK', root .. 'request:' .. id, job)
  redis.call('PUBLISH', root .. 'notifications', id)
  return true
end
