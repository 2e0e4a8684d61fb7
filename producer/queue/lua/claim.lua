--[[
  Leases the next pending jobs, in order of their scores, to a worker; at least one if any is pending, however
  large. First it returns to pending what expired leases and finished pauses have freed, at most 128 a call. While
  the queue is paused no job counts as pending.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2] max_jobs
  ARGV[3] max_bytes
  ARGV[4] lease_ms
  ARGV[5] presence_ms: how long a worker counts as alive after its last heartbeat
  ARGV[6] max_request_bytes: up to this total, requests are returned with their claims; copying large ones
          inside a script costs more than asking for them
  ARGV[7] malformed_result: the result of an entry that is not a job; such entries become dead letters
  ARGV[8] result_keep_ms: how long it is kept
  ARGV[9] code: of that failure
  ARGV[10] message
  ARGV[11] keep_ms: how long dead letters are kept
  ARGV[12] max_letters
  ARGV[13] max_letter_bytes: of all dead letters' texts

  Returns {1 if jobs may be left, jobs}; of each job
  {id, token, tries, bytes, texts, ms since it was enqueued, request or nil, bisection or nil}.
]]
--- @include "server_time"
--- @include "return_to_pending"
--- @include "extend_leases_after_outage"
--- @include "read_job"
--- @include "set_aside"
--- @include "count"
local root = KEYS[1]
local worker = ARGV[1]
local max_jobs = tonumber(ARGV[2])
local max_bytes = tonumber(ARGV[3])
local lease_ms = tonumber(ARGV[4])
local presence_ms = tonumber(ARGV[5])
local max_request_bytes = tonumber(ARGV[6])
local malformed_result = ARGV[7]
local result_keep_ms = tonumber(ARGV[8])
local code = ARGV[9]
local message = ARGV[10]
local keep_ms = tonumber(ARGV[11])
local max_letters = tonumber(ARGV[12])
local max_letter_bytes = tonumber(ARGV[13])

local now, seconds, micros = server_time()
extend_leases_after_outage(root, now, presence_ms, lease_ms)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now, 'LIMIT', 0, 128)) do
  if return_to_pending(root, id, now) > 0 then count(root, 'lost_leases', 1) end
end

local max_deferral_ms = 3600000 -- low priority scores lie in the future
local claimed, bytes, num_aside = {}, 0, 0
local ids = redis.call('EXISTS', root .. 'paused') == 1 and {}
  or redis.call('ZRANGEBYSCORE', root .. 'pending', '-inf', now + max_deferral_ms, 'LIMIT', 0, max_jobs)
for _, id in ipairs(ids) do
  local key, job = root .. 'job:' .. id, read_job(root, id)
  bytes = bytes + (job and job.bytes or 0)
  if #claimed > 0 and bytes > max_bytes then break end
  if job then
    redis.call('ZREM', root .. 'pending', id)
    local tries = redis.call('HINCRBY', key, 'tries', 1)
    -- To the microsecond: a worker may claim a job twice within a millisecond.
    local token = worker .. ':' .. tries .. ':' .. seconds .. string.format('%06d', micros)
    redis.call('HSET', key, 'token', token)
    redis.call('ZADD', root .. 'leases', now + lease_ms, id)
    local waited_ms = now - (job.enqueued or now)
    local request = bytes <= max_request_bytes and redis.pcall('GET', root .. 'request:' .. id)
    if type(request) == 'table' then request = false end -- of another type
    claimed[#claimed + 1] = {id, token, tries, job.bytes or 0, job.texts or 0, waited_ms, request, job.bisection}
  else
    set_aside(root, id, {result = malformed_result, keep_ms = result_keep_ms, code = code, message = message},
      {keep_ms = keep_ms, max_letters = max_letters, max_bytes = max_letter_bytes})
    num_aside = num_aside + 1
  end
end
return {(#claimed + num_aside < #ids or #ids == max_jobs) and 1 or 0, claimed}
