--[[
  Ends pending and running jobs with a given result. Given a run, it ends only jobs of that run that nobody else
  wants; given none, it ends every job, even if others want it.

  KEYS[1] root of the queue's keys
  ARGV[1] result: the encoded result of a cancelled job
  ARGV[2] keep_ms: how long the result is kept
  ARGV[3] run: '' for none
  ARGV[4...] id of each job

  Returns {jobs ended, jobs of the run left because others also want them}.
]]
local root = KEYS[1]
local result = ARGV[1]
local keep_ms = ARGV[2]
local run = ARGV[3]

local num_ended, num_left = 0, 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local job = root .. 'job:' .. id
  local may_end = run == ''
  if not may_end and redis.call('HDEL', job, 'run:' .. run) == 1 then
    may_end = redis.call('HINCRBY', job, 'wanted', -1) <= 0
    if not may_end then num_left = num_left + 1 end
  end
  if may_end and redis.call('ZREM', root .. 'pending', id) + redis.call('ZREM', root .. 'leases', id) > 0 then
    redis.call('SET', root .. 'result:' .. id, result, 'PX', keep_ms)
    redis.call('HINCRBY', root .. 'totals', 'bytes', 0 - tonumber(redis.call('HGET', job, 'bytes') or '0'))
    redis.call('HINCRBY', root .. 'totals', 'cancelled', 1)
    redis.call('UNLINK', root .. 'request:' .. id, job)
    redis.call('PUBLISH', root .. 'notifications', id)
    redis.call('PUBLISH', root .. 'wakeup', '-' .. id)
    num_ended = num_ended + 1
  end
end
return {num_ended, num_left}
