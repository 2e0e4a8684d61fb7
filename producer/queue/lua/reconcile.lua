--[[
  Corrects the queue's byte counter: the bytes of a job whose hash was lost were never subtracted. Only the first live
  worker by name does it, and only if the queue is short enough to be counted within a millisecond: a counter that is too
  high lets fewer jobs in, so that the queue becomes short.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2] max_jobs: how many jobs may be counted

  Returns by how many bytes the counter was too high.
]]
--- @include "hash_fields"
--- @include "whole"
local root = KEYS[1]
local worker = ARGV[1]
local max_jobs = tonumber(ARGV[2])

for _, other in ipairs(redis.call('ZRANGE', root .. 'workers', 0, -1)) do
  if other < worker then return 0 end
end
local pending, leases, totals = root .. 'pending', root .. 'leases', root .. 'totals'
if redis.call('ZCARD', pending) + redis.call('ZCARD', leases) > max_jobs then return 0 end
local bytes = 0
for _, set in ipairs({pending, leases}) do
  for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    bytes = bytes + (whole(hash_fields(root .. 'job:' .. id, 'bytes')[1]) or 0)
  end
end
local counted = whole(hash_fields(totals, 'bytes')[1]) or 0
if counted ~= bytes then
  redis.call('HDEL', totals, 'bytes')
  redis.call('HSET', totals, 'bytes', bytes)
end
return counted - bytes
