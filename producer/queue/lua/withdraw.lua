--[[
  Takes back single asks, and ends those of their jobs that nobody asks for any more.

  KEYS[1] root of the queue's keys
  ARGV[1] result: the encoded result of a cancelled job
  ARGV[2] keep_ms: how long the result is kept
  ARGV[3...] id of the job and asker of each ask, in turn

  Returns how many jobs ended.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "drop_asks"
--- @include "end_job"
--- @include "tell_ends"
local root = KEYS[1]
local result = ARGV[1]
local keep_ms = tonumber(ARGV[2])

local now, ended = server_time(), {}
for i = 3, #ARGV, 2 do
  local id, asker = ARGV[i], 'ask:' .. ARGV[i + 1]
  local job = root .. 'job:' .. id
  local run = hash_fields(job, asker)[1]
  if run then
    redis.call('HDEL', job, asker)
    if drop_asks(root, id, run, 1) == 0 then
      ended[#ended + 1] = end_job(root, id, {result = result, kept_ms = keep_ms, outcome = 'cancelled'}, now)
    end
  end
end
tell_ends(root, ended)
return #ended
