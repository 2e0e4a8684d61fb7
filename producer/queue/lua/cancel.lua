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
--- @include "hash_fields"
--- @include "whole"
--- @include "count"
--- @include "end_lease"
--- @include "make_room"
--- @include "notify"
--- @include "owner_of"
local root = KEYS[1]
local result = ARGV[1]
local keep_ms = ARGV[2]
local run = ARGV[3]

local ended, num_left = {}, 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local job = root .. 'job:' .. id
  local fields, may_end = hash_fields(job, 'run:' .. run, 'wanted', 'bytes', 'token', 'clients'), run == ''
  if not may_end and fields[1] then
    local wanted = (whole(fields[2]) or 1) - 1
    redis.call('HDEL', job, 'run:' .. run)
    redis.call('HSET', job, 'wanted', wanted)
    may_end = wanted <= 0
    if not may_end then num_left = num_left + 1 end
  end
  local token = fields[4]
  if may_end and (redis.call('ZREM', root .. 'pending', id) == 1 or end_lease(root, id, token)) then
    redis.call('SET', root .. 'result:' .. id, result, 'PX', keep_ms)
    count(root, 'bytes', 0 - (whole(fields[3]) or 0))
    count(root, 'cancelled', 1)
    redis.call('UNLINK', root .. 'request:' .. id, job)
    if owner_of(token) then redis.call('PUBLISH', root .. 'wakeup:' .. owner_of(token), '-' .. id) end
    ended[#ended + 1] = {id = id, clients = fields[5] or ''}
  end
end
if #ended > 0 then
  notify(root, ended)
  make_room(root, #ended)
end
return {#ended, num_left}
