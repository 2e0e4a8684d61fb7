--[[
  Has a client told when a job ends that it did not enqueue. A job that is still pending at its deadline ends, even if
  no worker is there to see it.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] client
  ARGV[3] overdue: the encoded result of a job that has not begun by its deadline
  ARGV[4] keep_ms: how long that is kept

  Returns ms until the job's deadline if it is on the queue, 0 if there is a result, -1 if there is neither.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "add_client"
--- @include "end_job"
--- @include "tell_ends"
local root = KEYS[1]
local id = ARGV[1]
local client = ARGV[2]
local overdue = ARGV[3]
local keep_ms = tonumber(ARGV[4])

if redis.call('EXISTS', root .. 'job:' .. id) == 1 then
  local now = server_time()
  local left_ms = (whole(hash_fields(root .. 'job:' .. id, 'deadline')[1]) or now + 604800000) - now
  if left_ms > 0 or not redis.call('ZSCORE', root .. 'pending', id) then
    add_client(root, id, client)
    return math.max(left_ms, 1000)
  end
  local ended = end_job(root, id, {result = overdue, kept_ms = keep_ms, outcome = 'failed'}, now)
  tell_ends(root, {ended})
end
return redis.call('EXISTS', root .. 'result:' .. id) - 1
