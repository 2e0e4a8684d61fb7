--[[
  Leases the next pending jobs, in order of their scores, to a worker; at least one if any is pending, however
  large. First it returns to pending what expired leases and finished pauses have freed, at most 64 a call. A worker
  that has room for more than there is counts as idle, and is woken for one of the next jobs; if jobs are left, another
  idle worker is woken.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2] num_held: how many jobs it holds already
  ARGV[3] max_jobs
  ARGV[4] max_bytes
  ARGV[5] lease_ms
  ARGV[6] presence_ms: how long a worker counts as alive after its last heartbeat
  ARGV[7] max_request_bytes: up to this total, requests are returned with their claims; copying large ones
          inside a script costs more than asking for them
  ARGV[8] malformed_result: the result of an entry that is not a job; such entries become dead letters
  ARGV[9] result_keep_ms: how long it is kept
  ARGV[10] code: of that failure
  ARGV[11] message
  ARGV[12] keep_ms: how long dead letters are kept
  ARGV[13] max_letters
  ARGV[14] max_letter_bytes: of all dead letters' texts

  Returns {1 if jobs may be left, jobs, requests or nils of the first of them}; of each job
  {id, token, tries, bytes, texts, ms since it was enqueued, bisection or nil}.
]]
--- @include "server_time"
--- @include "return_expired"
--- @include "read_job"
--- @include "set_aside"
--- @include "ring"
local root = KEYS[1]
local worker = ARGV[1]
local num_held = tonumber(ARGV[2])
local max_jobs = tonumber(ARGV[3])
local max_bytes = tonumber(ARGV[4])
local lease_ms = tonumber(ARGV[5])
local presence_ms = tonumber(ARGV[6])
local max_request_bytes = tonumber(ARGV[7])
local malformed_result = ARGV[8]
local result_keep_ms = tonumber(ARGV[9])
local code = ARGV[10]
local message = ARGV[11]
local keep_ms = tonumber(ARGV[12])
local max_letters = tonumber(ARGV[13])
local max_letter_bytes = tonumber(ARGV[14])
max_jobs = math.min(max_jobs, 128) -- about a millisecond

local now, seconds, micros = server_time()
return_expired(root, now, presence_ms, lease_ms)

local max_deferral_ms = 3600000 -- low priority scores lie in the future
local taken, jobs, ends, aside, request_keys, bytes = {}, {}, {}, {}, {}, 0
local ids = redis.call('ZRANGEBYSCORE', root .. 'pending', '-inf', now + max_deferral_ms, 'LIMIT', 0, max_jobs)
for _, id in ipairs(ids) do
  local job = read_job(root, id)
  bytes = bytes + (job and job.bytes or 0)
  if #taken > 0 and bytes > max_bytes then break end
  if job then
    taken[#taken + 1], jobs[#jobs + 1] = id, job
    ends[#ends + 1], ends[#ends + 2] = now + lease_ms, id
    if bytes <= max_request_bytes then request_keys[#taken] = root .. 'request:' .. id end
  else
    aside[#aside + 1] = id
  end
end
local claimed = {}
if #taken > 0 then
  redis.call('ZREM', root .. 'pending', unpack(taken))
  for place, id in ipairs(taken) do
    local job = jobs[place]
    local tries = (job.tries or 0) + 1
    -- To the microsecond: a worker may claim a job twice within a millisecond.
    local token = worker .. ':' .. tries .. ':' .. seconds .. string.format('%06d', micros)
    redis.call('HSET', root .. 'job:' .. id, 'token', token, 'tries', tries)
    local waited_ms = now - (job.enqueued or now)
    claimed[place] = {id, token, tries, job.bytes or 0, job.texts or 0, waited_ms, job.bisection}
  end
  redis.call('ZADD', root .. 'leases', unpack(ends))
  redis.call('SADD', root .. 'held:' .. worker, unpack(taken))
end
for _, id in ipairs(aside) do
  set_aside(root, id, {result = malformed_result, keep_ms = result_keep_ms, code = code, message = message},
    {keep_ms = keep_ms, max_letters = max_letters, max_bytes = max_letter_bytes})
end
local more = #taken + #aside < #ids or #ids == max_jobs
if more then
  ring(root)
else
  redis.pcall('ZADD', root .. 'idle', num_held + #taken, worker) -- may fail for want of memory
  redis.call('PEXPIRE', root .. 'idle', presence_ms)
end
local requests = #request_keys > 0 and redis.call('MGET', unpack(request_keys)) or {}
return {more and 1 or 0, claimed, requests}
