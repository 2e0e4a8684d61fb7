--[[
  Says whether an answer can be expected. A job that is still pending at its deadline ends.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] overdue: the encoded result of such a job
  ARGV[3] keep_ms: how long it is kept

  Returns 1 if the job is on the queue or answered, 0 if not.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "end_job"
local root = KEYS[1]
local id = ARGV[1]
local overdue = ARGV[2]
local keep_ms = tonumber(ARGV[3])

local now = server_time()
local deadline = whole(hash_fields(root .. 'job:' .. id, 'deadline')[1])
if deadline and deadline <= now and redis.call('ZSCORE', root .. 'pending', id) then
  end_job(root, id, {result = overdue, kept_ms = keep_ms, outcome = 'failed'}, now)
end
return redis.call('EXISTS', root .. 'job:' .. id, root .. 'result:' .. id) > 0 and 1 or 0
