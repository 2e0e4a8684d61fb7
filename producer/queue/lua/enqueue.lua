--[[
  Enqueues a staged request unless a job of that id, or its result, is there already: bounded and deduplicated in
  one step. The result of a cancelled job does not count: enqueueing the job again computes it. The job's
  hash has a field for each run that wants it (`run:` alone for callers without a run) and `wanted` counts these.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] staging_token
  ARGV[3] bytes
  ARGV[4] texts
  ARGV[5] head_start_ms: how much earlier the job counts as enqueued
  ARGV[6] max_jobs
  ARGV[7] max_bytes
  ARGV[8] keep_ms: how long the result is kept
  ARGV[9] run: '' if there is none
  ARGV[10] cancelled_result: the result of a cancelled job

  Returns {'joined', 0}, {'full', pending jobs}, {'lost', 0} if the staged request is gone,
  or {'queued', pending jobs}.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "count"
local root = KEYS[1]
local id = ARGV[1]
local staging_token = ARGV[2]
local bytes = tonumber(ARGV[3])
local texts = ARGV[4]
local head_start_ms = tonumber(ARGV[5])
local max_jobs = tonumber(ARGV[6])
local max_bytes = tonumber(ARGV[7])
local keep_ms = ARGV[8]
local run = ARGV[9]
local cancelled_result = ARGV[10]

local staged, job, result = root .. 'staged:' .. staging_token, root .. 'job:' .. id, root .. 'result:' .. id
local exists, wanted = redis.call('EXISTS', job) == 1, redis.pcall('HGET', job, 'wanted')
if exists and type(wanted) ~= 'table' then -- an error means another type
  if redis.call('HSET', job, 'run:' .. run, 1) == 1 then
    redis.call('HSET', job, 'wanted', (whole(wanted) or 0) + 1)
  end
  redis.call('UNLINK', staged)
  return {'joined', 0}
end
local old_result = redis.pcall('GET', result) -- a table if it is of another type
if type(old_result) == 'string' and old_result ~= cancelled_result then
  redis.call('UNLINK', staged)
  return {'joined', 0}
end
local depth = redis.call('ZCARD', root .. 'pending')
local held_bytes = whole(hash_fields(root .. 'totals', 'bytes')[1]) or 0
if depth >= max_jobs or (held_bytes > 0 and held_bytes + bytes > max_bytes) then
  redis.call('UNLINK', staged)
  return {'full', depth}
end
if redis.call('EXISTS', staged) == 0 then return {'lost', 0} end
if exists then redis.call('UNLINK', job) end -- foreign

local now = server_time()
local score = now - head_start_ms
redis.call('RENAME', staged, root .. 'request:' .. id)
redis.call('PERSIST', root .. 'request:' .. id)
redis.call('HSET', job, 'bytes', bytes, 'texts', texts, 'score', score, 'tries', 0,
  'enqueued', now, 'keep', keep_ms, 'run:' .. run, 1, 'wanted', 1)
redis.call('ZADD', root .. 'pending', score, id)
if old_result then redis.call('UNLINK', result) end
if redis.call('ZREM', root .. 'dead', id) == 1 then
  redis.call('UNLINK', root .. 'dead:' .. id, root .. 'dead-request:' .. id)
end
count(root, 'bytes', bytes)
-- While other jobs are pending no worker is idle: each looks at the queue again when it has room.
if depth == 0 then redis.call('PUBLISH', root .. 'wakeup', '+') end
return {'queued', depth + 1}
