--- @include "count"
--- @include "end_lease"
--- @include "hash_fields"
--- @include "keep_answers"
--- @include "owner_of"
--- @include "whole"
-- Ends a pending or leased job with an answer that no worker wrote, and has its worker stop: `answer` has result,
-- kept_ms, and outcome, the counter to increment. Whoever waits for it, or for room, is left to the caller.
-- Returns the job's id and clients, or nil if it was not on the queue.
local function end_job(root, id, answer, now)
  local job = root .. 'job:' .. id
  local fields = hash_fields(job, 'bytes', 'asks', 'digest', 'clients', 'token')
  local token = fields[5]
  if redis.call('ZREM', root .. 'pending', id) == 0 and not end_lease(root, id, token) then return nil end
  redis.call('SET', root .. 'result:' .. id, answer.result, 'PX', answer.kept_ms)
  local kept =
    {id = id, kept_ms = answer.kept_ms, bytes = #answer.result, asks = whole(fields[2]), digest = fields[3]}
  count(root, 'bytes', keep_answers(root, {kept}, now) - (whole(fields[1]) or 0))
  count(root, answer.outcome, 1)
  redis.call('UNLINK', root .. 'request:' .. id, job)
  if owner_of(token) then redis.call('PUBLISH', root .. 'wakeup:' .. owner_of(token), '-' .. id) end
  return {id = id, clients = fields[4] or ''}
end
