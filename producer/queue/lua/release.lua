--[[
  Hands a job back: pending at once, or after a pause, which is a lease without an owner.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] token
  ARGV[3] pause_ms
  ARGV[4] refunded_tries

  Returns 1 if the token owned the job, 0 if not.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "end_lease"
--- @include "extend_life"
--- @include "pend"
--- @include "ring"
local root = KEYS[1]
local id = ARGV[1]
local token = ARGV[2]
local pause_ms = tonumber(ARGV[3])
local refunded_tries = tonumber(ARGV[4])

local job = root .. 'job:' .. id
if hash_fields(job, 'token')[1] ~= token then return 0 end
local now = server_time()
redis.call('HDEL', job, 'token', 'under_test')
redis.call('HSET', job, 'tries', (whole(hash_fields(job, 'tries')[1]) or 0) - refunded_tries)
end_lease(root, id, token)
if pause_ms > 0 then
  redis.call('ZADD', root .. 'leases', now + pause_ms, id)
  extend_life(root .. 'leases')
else
  pend(root, id, whole(hash_fields(job, 'score')[1]) or now)
  ring(root)
end
return 1
