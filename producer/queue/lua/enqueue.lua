--[[
  Enqueues a request, or joins the job of that id, or its answer, if it is there already: bounded and deduplicated in
  one step. A job joins with the stricter terms: the higher priority, the longer keeping, the later deadline. An answer
  that says that the job was ended unbegun does not count: enqueueing the job again computes it.

  Each call is an ask: `asks` in the job's hash counts them, `run:<name>` those of a run (`run:` alone those
  without one), and `ask:<asker>` is one that can be withdrawn; `latest` tells a call that is sent again because its
  reply was lost. `clients` are told when the job has ended.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] call: the name of this call, under which a large request is staged
  ARGV[3] payload: the request, '' if it is staged
  ARGV[4] digest: of the request; a job of that id with another one is another job
  ARGV[5] bytes
  ARGV[6] texts
  ARGV[7] head_start_ms: how much earlier the job counts as enqueued
  ARGV[8] max_jobs
  ARGV[9] max_bytes: of texts and of answers that are kept
  ARGV[10] keep_ms: how long the result is kept
  ARGV[11] life_ms: in which the job must begin
  ARGV[12] run: '' if there is none
  ARGV[13] asker: the name of this ask, '' if it will not be withdrawn
  ARGV[14] client: who is told when the job has ended, '' if nobody waits for it
  ARGV[15] cancelled: the answer to a cancelled job
  ARGV[16] overdue: the answer to a job that has not begun by its deadline

  Returns {'joined', 0}, {'taken', 0} if the id is in use for another request, {'full', pending jobs},
  {'lost', 0} if the staged request is gone, or {'queued', pending jobs}.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "count"
--- @include "extend_life"
--- @include "forget_answer"
--- @include "forget_expired_answers"
--- @include "add_client"
--- @include "ring"
local root = KEYS[1]
local id = ARGV[1]
local call = ARGV[2]
local payload = ARGV[3]
local digest = ARGV[4]
local bytes = tonumber(ARGV[5])
local texts = ARGV[6]
local head_start_ms = tonumber(ARGV[7])
local max_jobs = tonumber(ARGV[8])
local max_bytes = tonumber(ARGV[9])
local keep_ms = tonumber(ARGV[10])
local life_ms = tonumber(ARGV[11])
local run = ARGV[12]
local asker = ARGV[13]
local client = ARGV[14]
local cancelled = ARGV[15]
local overdue = ARGV[16]

local staged, job, request = root .. 'staged:' .. call, root .. 'job:' .. id, root .. 'request:' .. id
local result, letter = root .. 'result:' .. id, root .. 'dead:' .. id
local is_staged = payload == ''
local now = server_time()
local score, deadline, kept_ms = now - head_start_ms, now + life_ms, life_ms + 86400000

local function refuse(state, number)
  redis.call('UNLINK', staged) -- needs no memory, as the first write must
  return {state, number}
end

local function join_job(fields)
  if fields[1] and fields[1] ~= digest then return refuse('taken', 0) end
  if fields[8] == call then return refuse('queued', 0) end
  refuse('joined', 0)
  score = math.min(score, whole(fields[5]) or score)
  redis.call('HSET', job, 'latest', call, 'keep', math.max(keep_ms, whole(fields[3]) or 0),
    'deadline', math.max(deadline, whole(fields[4]) or 0), 'score', score,
    'asks', (whole(fields[6]) or 0) + 1, 'run:' .. run, (whole(fields[7]) or 0) + 1)
  kept_ms = math.max(kept_ms, redis.call('PTTL', job))
  redis.call('PEXPIRE', job, kept_ms)
  redis.call('PEXPIRE', request, kept_ms)
  redis.call('ZADD', root .. 'pending', 'XX', score, id)
  if asker ~= '' then redis.call('HSET', job, 'ask:' .. asker, run) end
  add_client(root, id, client)
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

local is_foreign, has_answer = false, false
local is_known = redis.call('EXISTS', job, result, letter) > 0 -- of a new job there is nothing
if is_known then
  local fields = redis.pcall('HMGET', job, 'digest', 'tries', 'keep', 'deadline', 'score', 'asks',
    'run:' .. run, 'latest')
  is_foreign = fields.err
  if not is_foreign and (fields[1] or fields[2]) then return join_job(fields) end
  has_answer = redis.call('EXISTS', result) == 1
  if has_answer and is_answered() then return join_answer() end
  local dead = hash_fields(letter, 'digest')[1]
  if digest ~= id and dead and dead ~= digest then return refuse('taken', 0) end -- named by its caller
end

local depth = redis.call('ZCARD', root .. 'pending')
if depth >= max_jobs then return refuse('full', depth) end
if is_staged and redis.call('EXISTS', staged) == 0 then return {'lost', 0} end
local held_bytes = count(root, 'bytes', bytes)
if held_bytes > bytes and held_bytes > max_bytes then
  held_bytes = held_bytes - forget_expired_answers(root, now)
  if held_bytes > bytes and held_bytes > max_bytes then
    count(root, 'bytes', 0 - bytes)
    return refuse('full', depth)
  end
end

if is_known then
  if is_foreign then redis.call('UNLINK', job) end
  if has_answer then forget_answer(root, id) end
  if redis.call('ZREM', root .. 'dead', id) == 1 then redis.call('UNLINK', letter, root .. 'dead-request:' .. id) end
end
if is_staged then
  redis.call('RENAME', staged, request)
  redis.call('PEXPIRE', request, kept_ms)
else
  redis.call('SET', request, payload, 'PX', kept_ms)
end
redis.call('HSET', job, 'bytes', bytes, 'texts', texts, 'score', score, 'tries', 0, 'enqueued', now, 'keep', keep_ms,
  'deadline', deadline, 'digest', digest, 'asks', 1, 'run:' .. run, 1, 'latest', call, 'clients', client,
  unpack(asker == '' and {} or {'ask:' .. asker, run}))
redis.call('PEXPIRE', job, kept_ms)
redis.call('ZADD', root .. 'pending', score, id)
if depth % 64 == 0 then
  extend_life(root .. 'pending')
  extend_life(root .. 'totals')
end
-- While other jobs are pending a worker is on its way to them, and wakes the next one if it leaves any.
if depth == 0 then ring(root) end
return {'queued', depth + 1}
