--[[
  Has a client told when a job ends that it did not enqueue.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] client

  Returns 1 if the job is on the queue, 0 if it is not; then there may be a result.
]]
--- @include "add_client"
local root = KEYS[1]
local id = ARGV[1]
local client = ARGV[2]

if redis.call('EXISTS', root .. 'job:' .. id) == 0 then return 0 end
add_client(root, id, client)
return 1
