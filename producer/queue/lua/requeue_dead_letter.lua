--[[
  Makes a dead letter a pending job again, as if new, regardless of the queue's limits. The result that reported
  its failure is removed. Requeueing is an ask without a run.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] life_ms: in which the job must begin

  Returns 1 if it was a dead letter, 0 if not.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "count"
--- @include "pend"
--- @include "forget_answer"
--- @include "ring"
local root = KEYS[1]
local id = ARGV[1]
local life_ms = tonumber(ARGV[2])

local max_deferral_ms = 3600000
local letter, dead_request = root .. 'dead:' .. id, root .. 'dead-request:' .. id
local job, request = root .. 'job:' .. id, root .. 'request:' .. id
local fields = hash_fields(letter, 'code', 'bytes', 'score', 'enqueued', 'run:', 'asks')
if not fields[1] or redis.call('EXISTS', dead_request) == 0 then return 0 end
local now = server_time()
redis.call('ZREM', root .. 'dead', id)
forget_answer(root, id)
redis.call('RENAME', letter, job)
redis.call('PEXPIRE', job, life_ms + 86400000)
redis.call('RENAME', dead_request, request)
redis.call('PEXPIRE', request, life_ms + 86400000)
local bytes, old_score = whole(fields[2]) or 0, whole(fields[3]) or now
local enqueued = whole(fields[4]) or old_score
-- It keeps its head start; deferrals after deaths count for no more than low priority does.
local score = math.min(now + old_score - enqueued, now + max_deferral_ms)
redis.call('HDEL', job, 'code', 'message', 'died')
redis.call('HSET', job, 'tries', 0, 'enqueued', now, 'score', score, 'deadline', now + life_ms,
  'run:', (whole(fields[5]) or 0) + 1, 'asks', (whole(fields[6]) or 0) + 1)
pend(root, id, score)
count(root, 'bytes', bytes)
ring(root)
return 1
