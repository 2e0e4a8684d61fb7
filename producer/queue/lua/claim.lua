--[[
  Leases the next pending jobs, in order of their scores, to a worker; at least one if any is pending, however
  large. First it returns to pending what expired leases and finished pauses have freed, at most 128 a call. A job whose
  deadline has passed is not leased: it ends.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2] max_jobs
  ARGV[3] max_bytes
  ARGV[4] lease_ms
  ARGV[5] max_request_bytes: up to this total, requests are returned with their claims; copying large ones
          inside a script costs more than asking for them
  ARGV[6] malformed_result: the result of an entry that is not a job; such entries become dead letters
  ARGV[7] result_keep_ms: how long it is kept
  ARGV[8] code: of that failure
  ARGV[9] message
  ARGV[10] keep_ms: how long dead letters are kept
  ARGV[11] max_letters
  ARGV[12] max_letter_bytes: of all dead letters' texts
  ARGV[13] overdue: the result of a job that has not begun by its deadline; it is kept for `result_keep_ms`

  Returns {1 if jobs may be left, jobs}; of each job
  {id, token, tries, bytes, texts, ms since it was enqueued, ms until its deadline, request or nil,
  bisection or nil}.
]]
--- @include "server_time"
--- @include "return_to_pending"
--- @include "extend_leases_after_outage"
--- @include "read_job"
--- @include "set_aside"
--- @include "count"
--- @include "end_job"
--- @include "extend_life"
local root = KEYS[1]
local worker = ARGV[1]
local max_jobs = tonumber(ARGV[2])
local max_bytes = tonumber(ARGV[3])
local lease_ms = tonumber(ARGV[4])
local max_request_bytes = tonumber(ARGV[5])
local malformed_result = ARGV[6]
local result_keep_ms = tonumber(ARGV[7])
local code = ARGV[8]
local message = ARGV[9]
local keep_ms = tonumber(ARGV[10])
local max_letters = tonumber(ARGV[11])
local max_letter_bytes = tonumber(ARGV[12])
local overdue = ARGV[13]

local now, seconds, micros = server_time()
extend_leases_after_outage(root, now, lease_ms)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now, 'LIMIT', 0, 128)) do
  if return_to_pending(root, id, now) > 0 then count(root, 'lost_leases', 1) end
end

local claimed, bytes, num_aside = {}, 0, 0
local range_end = 2 * max_request_bytes -- a request that is larger than it says is not copied either
local ids = redis.call('ZRANGEBYSCORE', root .. 'pending', '-inf', '+inf', 'LIMIT', 0, max_jobs)
for _, id in ipairs(ids) do
  local key, job = root .. 'job:' .. id, read_job(root, id)
  local is_overdue = job and job.deadline and job.deadline <= now
  bytes = bytes + (job and not is_overdue and job.bytes or 0)
  if #claimed > 0 and bytes > max_bytes then break end
  if is_overdue then
    end_job(root, id, {result = overdue, kept_ms = result_keep_ms, outcome = 'failed'}, now)
    num_aside = num_aside + 1
  elseif job then
    redis.call('ZREM', root .. 'pending', id)
    local tries = redis.call('HINCRBY', key, 'tries', 1)
    -- To the microsecond: a worker may claim a job twice within a millisecond.
    local token = worker .. ':' .. tries .. ':' .. seconds .. string.format('%06d', micros)
    redis.call('HSET', key, 'token', token)
    redis.call('ZADD', root .. 'leases', now + lease_ms, id)
    if not job.deadline then redis.call('PEXPIRE', key, 86400000) end -- foreign
    local waited_ms = math.max(0, now - (job.enqueued or now))
    local left_ms = (job.deadline or now + 604800000) - now
    local request = bytes <= max_request_bytes and redis.pcall('GETRANGE', root .. 'request:' .. id, 0, range_end)
    if type(request) ~= 'string' or #request == 0 or #request > range_end then request = false end
    claimed[#claimed + 1] =
      {id, token, tries, job.bytes or 0, job.texts or 0, waited_ms, left_ms, request, job.bisection}
  else
    set_aside(root, id, {result = malformed_result, keep_ms = result_keep_ms, code = code, message = message},
      {keep_ms = keep_ms, max_letters = max_letters, max_bytes = max_letter_bytes})
    num_aside = num_aside + 1
  end
end
if #claimed > 0 then extend_life(root .. 'leases') end
return {(#claimed + num_aside < #ids or #ids == max_jobs) and 1 or 0, claimed}
