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
--- @include "tell_ends"
local root = KEYS[1]
local result = ARGV[1]
local keep_ms = tonumber(ARGV[2])
local run = ARGV[3]

local now, ended, num_left = server_time(), {}, 0
for i = 4, #ARGV do
  local id, left = ARGV[i], 0
  if run ~= '' then left = drop_asks(root, id, run) end
  if left == 0 then
    ended[#ended + 1] = end_job(root, id, {result = result, kept_ms = keep_ms, outcome = 'cancelled'}, now)
  elseif left then
    num_left = num_left + 1
  end
end
tell_ends(root, ended)
return {#ended, num_left}
