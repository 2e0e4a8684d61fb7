--[[
  Keeps the queue's own keys alive while it is served, and corrects its byte counter: the bytes of a job whose hash was
  lost were never subtracted, nor those of answers that have expired. Only the first live worker by name does it, and
  counts only if jobs and kept answers are few enough to be counted within a millisecond: a counter that is too high lets
  fewer jobs in, so that the queue becomes short.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2] max_jobs: how many jobs and answers may be counted

  Returns by how many bytes the counter was too high.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "forget_expired_answers"
--- @include "extend_life"
--- @include "whole"
local root = KEYS[1]
local worker = ARGV[1]
local max_jobs = tonumber(ARGV[2])

for _, other in ipairs(redis.call('ZRANGE', root .. 'workers', 0, -1)) do
  if other < worker then return 0 end
end
forget_expired_answers(root, server_time())
for _, name in ipairs({'pending', 'leases', 'totals', 'workers', 'idle', 'answers', 'askers', 'digests'}) do
  extend_life(root .. name)
end
local pending, leases, totals = root .. 'pending', root .. 'leases', root .. 'totals'
local answers = root .. 'answers'
if redis.call('ZCARD', pending) + redis.call('ZCARD', leases) + redis.call('ZCARD', answers) > max_jobs then
  return 0
end
local bytes = 0
for _, set in ipairs({pending, leases}) do
  for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    bytes = bytes + (whole(hash_fields(root .. 'job:' .. id, 'bytes')[1]) or 0)
  end
end
for _, member in ipairs(redis.call('ZRANGE', answers, 0, -1)) do
  bytes = bytes + (tonumber(string.match(member, '^(%d+) ')) or 0)
end
local counted = whole(hash_fields(totals, 'bytes')[1]) or 0
if counted ~= bytes then
  redis.call('HDEL', totals, 'bytes')
  redis.call('HSET', totals, 'bytes', bytes)
end
return counted - bytes
