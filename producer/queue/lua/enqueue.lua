--[[
  Enqueues a request unless a job of that id, or its result, is there already: bounded and deduplicated in
  one step. The result of a cancelled job does not count: enqueueing the job again computes it. The job's
  hash has a field for each run that wants it (`run:` alone for callers without a run) and `wanted` counts these.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] payload: the request, '' if it is staged
  ARGV[3] staging_token: of a large request, else ''
  ARGV[4] bytes
  ARGV[5] texts
  ARGV[6] head_start_ms: how much earlier the job counts as enqueued
  ARGV[7] max_jobs
  ARGV[8] max_bytes
  ARGV[9] keep_ms: how long the result is kept
  ARGV[10] run: '' if there is none
  ARGV[11] cancelled_result: the result of a cancelled job
  ARGV[12] client: who is told when the job has ended, '' if nobody waits for it

  Returns {'joined', 0}, {'full', pending jobs}, {'lost', 0} if the staged request is gone,
  or {'queued', pending jobs}.
]]
--- @include "server_time"
--- @include "whole"
--- @include "count"
--- @include "ring"
--- @include "add_client"
local root = KEYS[1]
local id = ARGV[1]
local payload = ARGV[2]
local staging_token = ARGV[3]
local bytes = tonumber(ARGV[4])
local texts = ARGV[5]
local head_start_ms = tonumber(ARGV[6])
local max_jobs = tonumber(ARGV[7])
local max_bytes = tonumber(ARGV[8])
local keep_ms = ARGV[9]
local run = ARGV[10]
local cancelled_result = ARGV[11]
local client = ARGV[12]

local staged, job, result = root .. 'staged:' .. staging_token, root .. 'job:' .. id, root .. 'result:' .. id
local letter = root .. 'dead:' .. id
local function unstage(...)
  if staging_token ~= '' then redis.call('UNLINK', staged) end
  return {...}
end

-- Of a new job there is nothing.
local is_known, exists, old_result = redis.call('EXISTS', job, result, letter) > 0, false, false
if is_known then
  local wanted = redis.pcall('HGET', job, 'wanted')
  exists = redis.call('EXISTS', job) == 1
  if exists and type(wanted) ~= 'table' then -- an error means another type
    if redis.call('HSET', job, 'run:' .. run, 1) == 1 then
      redis.call('HSET', job, 'wanted', (whole(wanted) or 0) + 1)
    end
    add_client(root, id, client)
    return unstage('joined', 0)
  end
  old_result = redis.pcall('GET', result) -- a table if it is of another type
  if type(old_result) == 'string' and old_result ~= cancelled_result then return unstage('joined', 0) end
end
local depth = redis.call('ZCARD', root .. 'pending')
if depth >= max_jobs then return unstage('full', depth) end
if staging_token ~= '' and redis.call('EXISTS', staged) == 0 then return {'lost', 0} end
local now = server_time()
local held_bytes = count(root, 'bytes', bytes)
if held_bytes > bytes and held_bytes > max_bytes then
  count(root, 'bytes', 0 - bytes)
  return unstage('full', depth)
end
if exists then redis.call('UNLINK', job) end -- foreign

local score = now - head_start_ms
if staging_token == '' then
  redis.call('SET', root .. 'request:' .. id, payload)
else
  redis.call('RENAME', staged, root .. 'request:' .. id)
  redis.call('PERSIST', root .. 'request:' .. id)
end
redis.call('HSET', job, 'bytes', bytes, 'texts', texts, 'score', score, 'tries', 0,
  'enqueued', now, 'keep', keep_ms, 'run:' .. run, 1, 'wanted', 1, 'clients', client)
redis.call('ZADD', root .. 'pending', score, id)
if old_result then redis.call('UNLINK', result) end
if is_known and redis.call('ZREM', root .. 'dead', id) == 1 then
  redis.call('UNLINK', letter, root .. 'dead-request:' .. id)
end
-- While other jobs are pending a worker is on its way to them, and wakes the next one if it leaves any.
if depth == 0 then ring(root) end
return {'queued', depth + 1}
