--[[
  Enqueues a staged request, or joins the job of that id, or its answer, if it is there already: bounded and
  deduplicated in one step. A job joins with the stricter terms: the higher priority, the longer keeping, the later
  deadline. An answer that says that the job was ended unbegun does not count: enqueueing the job again computes it.

  Each call is an ask: `asks` in the job's hash counts them, `run:<name>` those of a run (`run:` alone those
  without one), and `ask:<asker>` is one that can be withdrawn; `latest` tells a call that is sent again because its
  reply was lost.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] staging_token
  ARGV[3] digest: of the request; a job of that id with another one is another job
  ARGV[4] bytes
  ARGV[5] texts
  ARGV[6] head_start_ms: how much earlier the job counts as enqueued
  ARGV[7] max_jobs
  ARGV[8] max_bytes: of texts and of answers that are kept
  ARGV[9] keep_ms: how long the result is kept
  ARGV[10] life_ms: in which the job must begin
  ARGV[11] run: '' if there is none
  ARGV[12] asker: the name of this ask, '' if it will not be withdrawn
  ARGV[13] cancelled: the answer to a cancelled job
  ARGV[14] overdue: the answer to a job that has not begun by its deadline

  Returns {'joined', 0}, {'taken', 0} if the id is in use for another request, {'full', pending jobs},
  {'lost', 0} if the staged request is gone, or {'queued', pending jobs}.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "count"
--- @include "pend"
--- @include "extend_life"
--- @include "forget_answer"
--- @include "forget_expired_answers"
local root = KEYS[1]
local id = ARGV[1]
local staging_token = ARGV[2]
local digest = ARGV[3]
local bytes = tonumber(ARGV[4])
local texts = ARGV[5]
local head_start_ms = tonumber(ARGV[6])
local max_jobs = tonumber(ARGV[7])
local max_bytes = tonumber(ARGV[8])
local keep_ms = tonumber(ARGV[9])
local life_ms = tonumber(ARGV[10])
local run = ARGV[11]
local asker = ARGV[12]
local cancelled = ARGV[13]
local overdue = ARGV[14]

local staged, job, request = root .. 'staged:' .. staging_token, root .. 'job:' .. id, root .. 'request:' .. id
local result = root .. 'result:' .. id
local now = server_time()
local score, deadline, day_ms = now - head_start_ms, now + life_ms, 86400000

local function refuse(state, number)
  redis.call('UNLINK', staged) -- needs no memory, as the first write must
  return {state, number}
end

local function join_job(fields)
  if fields[1] and fields[1] ~= digest then return refuse('taken', 0) end
  if fields[8] == staging_token then return refuse('queued', 0) end
  refuse('joined', 0)
  redis.call('HSET', job, 'latest', staging_token, 'keep', math.max(keep_ms, whole(fields[3]) or 0),
    'deadline', math.max(deadline, whole(fields[4]) or 0), 'score', math.min(score, whole(fields[5]) or score))
  redis.call('PEXPIRE', job, math.max(life_ms + day_ms, redis.call('PTTL', job)))
  redis.call('PEXPIRE', request, math.max(life_ms + day_ms, redis.call('PTTL', request)))
  redis.call('ZADD', root .. 'pending', 'XX', math.min(score, whole(fields[5]) or score), id)
  redis.call('HSET', job, 'asks', (whole(fields[6]) or 0) + 1, 'run:' .. run, (whole(fields[7]) or 0) + 1)
  if asker ~= '' then redis.call('HSET', job, 'ask:' .. asker, run) end
  return {'joined', 0}
end

-- Whether an answer is there that is worth joining; whoever reads a large one through a script copies it.
local function is_answered()
  local size = redis.pcall('STRLEN', result)
  if type(size) ~= 'number' or size == 0 then return false end
  if size ~= #cancelled and size ~= #overdue then return true end
  local answer = redis.call('GET', result)
  return answer ~= cancelled and answer ~= overdue
end

local function join_answer()
  local known = redis.call('HGET', root .. 'digests', id)
  if known and known ~= digest then return refuse('taken', 0) end
  refuse('joined', 0)
  redis.call('HSET', root .. 'askers', id, (whole(redis.call('HGET', root .. 'askers', id)) or 1) + 1)
  extend_life(root .. 'askers')
  if redis.call('PTTL', result) < keep_ms then
    redis.call('PEXPIRE', result, keep_ms)
    redis.call('ZADD', root .. 'answers', 'XX', now + keep_ms, redis.call('STRLEN', result) .. ' ' .. id)
  end
  return {'joined', 0}
end

local function held_bytes()
  return whole(hash_fields(root .. 'totals', 'bytes')[1]) or 0
end

local fields = redis.pcall('HMGET', job, 'digest', 'tries', 'keep', 'deadline', 'score', 'asks',
  'run:' .. run, 'latest')
local is_foreign = fields.err
if not is_foreign and (fields[1] or fields[2]) then return join_job(fields) end
local has_answer = redis.call('EXISTS', result) == 1
if has_answer and is_answered() then return join_answer() end
if digest ~= id then -- named by its caller
  local dead = hash_fields(root .. 'dead:' .. id, 'digest')[1]
  if dead and dead ~= digest then return refuse('taken', 0) end
end
local depth, held = redis.call('ZCARD', root .. 'pending'), held_bytes()
if held + bytes > max_bytes then
  forget_expired_answers(root, now)
  held = held_bytes()
end
if depth >= max_jobs or (held > 0 and held + bytes > max_bytes) then return refuse('full', depth) end
if redis.pcall('RENAME', staged, request).err then return {'lost', 0} end

redis.call('PEXPIRE', request, life_ms + day_ms)
if is_foreign then redis.call('UNLINK', job) end
local known = {'bytes', bytes, 'texts', texts, 'score', score, 'tries', 0, 'enqueued', now, 'keep', keep_ms,
  'deadline', deadline, 'digest', digest, 'asks', 1, 'run:' .. run, 1, 'latest', staging_token}
if asker ~= '' then known[#known + 1], known[#known + 2] = 'ask:' .. asker, run end
redis.call('HSET', job, unpack(known))
redis.call('PEXPIRE', job, life_ms + day_ms)
pend(root, id, score)
if has_answer then forget_answer(root, id) end
if redis.call('ZREM', root .. 'dead', id) == 1 then
  redis.call('UNLINK', root .. 'dead:' .. id, root .. 'dead-request:' .. id)
end
count(root, 'bytes', bytes)
-- While other jobs are pending no worker is idle: each looks at the queue again when it has room.
if depth == 0 then
  extend_life(root .. 'totals')
  redis.call('PUBLISH', root .. 'wakeup', '+')
end
return {'queued', depth + 1}
