--[[
  Returns to pending the jobs leased to a worker that does not know of them because the reply to its claim was
  lost. This costs no try.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2...] token of each job that the worker knows of

  Returns the number of jobs that went back.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "end_lease"
--- @include "pend"
local root = KEYS[1]
local worker = ARGV[1]

local now = server_time()
local owner, known, num_returned = worker .. ':', {}, 0
for i = 2, #ARGV do known[ARGV[i]] = true end
for _, id in ipairs(redis.call('SMEMBERS', root .. 'held:' .. worker)) do
  local job = root .. 'job:' .. id
  local fields = hash_fields(job, 'token', 'score', 'tries')
  local token, score = fields[1], whole(fields[2]) or now
  if token and string.sub(token, 1, #owner) == owner and not known[token] then
    redis.call('HDEL', job, 'token')
    redis.call('HSET', job, 'tries', (whole(fields[3]) or 1) - 1)
    end_lease(root, id, token)
    pend(root, id, score)
    num_returned = num_returned + 1
  end
end
return num_returned
