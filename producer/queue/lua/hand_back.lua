--[[
  Makes every job of a dead worker pending again, in one step because any of them may have been the cause, and
  removes the worker.

  KEYS[1] root of the queue's keys
  ARGV[1] worker

  Returns {jobs that it held, how many of them had texts under test}.
]]
--- @include "server_time"
--- @include "return_to_pending"
--- @include "hash_fields"
--- @include "count"
--- @include "ring"
local root = KEYS[1]
local worker = ARGV[1]

local now = server_time()
local owner, num_jobs, num_under_test = worker .. ':', 0, 0
redis.call('ZREM', root .. 'workers', worker)
redis.call('ZREM', root .. 'idle', worker)
redis.call('UNLINK', root .. 'worker:' .. worker)
for _, id in ipairs(redis.call('SMEMBERS', root .. 'held:' .. worker)) do
  local token = hash_fields(root .. 'job:' .. id, 'token')[1]
  if token and string.sub(token, 1, #owner) == owner then
    num_jobs = num_jobs + 1
    if return_to_pending(root, id, now) == 2 then num_under_test = num_under_test + 1 end
  end
end
if num_jobs > 0 then
  count(root, 'lost_leases', num_jobs)
  ring(root)
end
return {num_jobs, num_under_test}
