--[[
  Ends pending and running jobs with a given result. Given a run, it ends only jobs of that run that nobody else
  asks for; given none, it ends every job, even if others ask for it.

  KEYS[1] root of the queue's keys
  ARGV[1] result: the encoded result of a cancelled job
  ARGV[2] keep_ms: how long the result is kept
  ARGV[3] run: '' for none
  ARGV[4...] id of each job

  Returns {jobs ended, jobs of the run left because others also ask for them}.
]]
--- @include "server_time"
--- @include "drop_asks"
--- @include "end_job"
local root = KEYS[1]
local result = ARGV[1]
local keep_ms = tonumber(ARGV[2])
local run = ARGV[3]

-- What those calls withdraw later was taken back here.
local function forget_askers(job)
  local fields = redis.call('HGETALL', job)
  for place = 1, #fields, 2 do
    if string.sub(fields[place], 1, 4) == 'ask:' and fields[place + 1] == run then
      redis.call('HDEL', job, fields[place])
    end
  end
end

local now, num_ended, num_left = server_time(), 0, 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local left = 0
  if run ~= '' then left = drop_asks(root, id, run) end
  if left == 0 and end_job(root, id, {result = result, kept_ms = keep_ms, outcome = 'cancelled'}, now) then
    redis.call('PUBLISH', root .. 'wakeup', '-' .. id)
    num_ended = num_ended + 1
  elseif left and left > 0 then
    forget_askers(root .. 'job:' .. id)
    num_left = num_left + 1
  end
end
return {num_ended, num_left}
