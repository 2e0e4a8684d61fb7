--[[
  Leases the next pending jobs, in order of their scores, to a worker; at least one if any is pending, however
  large; none while the queue is paused. First it returns to pending what expired leases and finished pauses have freed,
  at most 64 a call. A job whose deadline has passed is not leased: it ends. A worker that has room for more than there
  is counts as idle, and is woken for one of the next jobs; if jobs are left, another idle worker is woken.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2] num_held: how many jobs it holds already
  ARGV[3] max_jobs
  ARGV[4] max_bytes
  ARGV[5] lease_ms
  ARGV[6] max_request_bytes: up to this total, requests are returned with their claims; copying large ones
          inside a script costs more than asking for them
  ARGV[7] malformed_result: the result of an entry that is not a job; such entries become dead letters
  ARGV[8] result_keep_ms: how long it is kept
  ARGV[9] code: of that failure
  ARGV[10] message
  ARGV[11] keep_ms: how long dead letters are kept
  ARGV[12] max_letters
  ARGV[13] max_letter_bytes: of all dead letters' texts
  ARGV[14] overdue: the result of a job that has not begun by its deadline; it is kept for `result_keep_ms`
  ARGV[15] small_bytes: a worker that has work enough takes only jobs of high priority and those up to this size, past
          others among the next 64, and none that runs alone; 0 for any

  Returns {1 if jobs may be left, jobs}; of each job
  {id, token, tries, bytes, texts, ms since it was enqueued, ms until its deadline, request or nil, bisection or nil}.
]]
--- @include "server_time"
--- @include "return_expired"
--- @include "read_job"
--- @include "set_aside"
--- @include "end_job"
--- @include "extend_life"
--- @include "tell_ends"
--- @include "ring"
local root = KEYS[1]
local worker = ARGV[1]
local num_held = tonumber(ARGV[2])
local max_jobs = tonumber(ARGV[3])
local max_bytes = tonumber(ARGV[4])
local lease_ms = tonumber(ARGV[5])
local max_request_bytes = tonumber(ARGV[6])
local malformed_result = ARGV[7]
local result_keep_ms = tonumber(ARGV[8])
local code = ARGV[9]
local message = ARGV[10]
local keep_ms = tonumber(ARGV[11])
local max_letters = tonumber(ARGV[12])
local max_letter_bytes = tonumber(ARGV[13])
local overdue = ARGV[14]
local small_bytes = tonumber(ARGV[15])
max_jobs = math.min(max_jobs, 128) -- about a millisecond

local now, seconds, micros = server_time()
return_expired(root, now, lease_ms)

local function is_urgent(job)
  local has_head_start = (job.score or now) < (job.enqueued or 0)
  return not job.bisection and (has_head_start or (job.bytes or 0) <= small_bytes)
end
local num_read = small_bytes > 0 and 64 or max_jobs
local taken, jobs, ends, late, aside, bytes = {}, {}, {}, {}, {}, 0
local ids = redis.call('EXISTS', root .. 'paused') == 1 and {}
  or redis.call('ZRANGEBYSCORE', root .. 'pending', '-inf', '+inf', 'LIMIT', 0, num_read)
for _, id in ipairs(ids) do
  local job = read_job(root, id)
  local is_late = job and job.deadline and job.deadline <= now
  local is_taken = job and not is_late and (small_bytes == 0 or is_urgent(job))
  if is_taken then bytes = bytes + (job.bytes or 0) end
  if #taken > 0 and (bytes > max_bytes or #taken == max_jobs) then break end
  if is_taken then
    taken[#taken + 1], jobs[#jobs + 1] = id, job
    job.may_copy = bytes <= max_request_bytes
    ends[#ends + 1], ends[#ends + 2] = now + lease_ms, id
  elseif is_late then
    late[#late + 1] = id
  elseif not job then
    aside[#aside + 1] = id
  end
end

local claimed = {}
local range_end = 2 * max_request_bytes -- a request that is larger than it says is not copied either
if #taken > 0 then
  redis.call('ZREM', root .. 'pending', unpack(taken))
  for place, id in ipairs(taken) do
    local job, key = jobs[place], root .. 'job:' .. id
    local tries = (job.tries or 0) + 1
    -- To the microsecond: a worker may claim a job twice within a millisecond.
    local token = worker .. ':' .. tries .. ':' .. seconds .. string.format('%06d', micros)
    redis.call('HSET', key, 'token', token, 'tries', tries)
    if not job.deadline then redis.call('PEXPIRE', key, 86400000) end -- foreign
    local waited_ms = math.max(0, now - (job.enqueued or now))
    local left_ms = (job.deadline or now + 604800000) - now
    local request = job.may_copy and redis.pcall('GETRANGE', root .. 'request:' .. id, 0, range_end)
    if type(request) ~= 'string' or #request == 0 or #request > range_end then request = false end
    claimed[place] =
      {id, token, tries, job.bytes or 0, job.texts or 0, waited_ms, left_ms, request, job.bisection}
  end
  redis.call('ZADD', root .. 'leases', unpack(ends))
  redis.call('SADD', root .. 'held:' .. worker, unpack(taken))
  extend_life(root .. 'leases')
  extend_life(root .. 'held:' .. worker)
end
local ended = {}
for _, id in ipairs(late) do
  ended[#ended + 1] = end_job(root, id, {result = overdue, kept_ms = result_keep_ms, outcome = 'failed'}, now)
end
for _, id in ipairs(aside) do
  set_aside(root, id, {result = malformed_result, keep_ms = result_keep_ms, code = code, message = message},
    {keep_ms = keep_ms, max_letters = max_letters, max_bytes = max_letter_bytes})
end
tell_ends(root, ended)
local more = #taken + #late + #aside < #ids or #ids == num_read
if more then
  ring(root)
else
  redis.pcall('ZADD', root .. 'idle', num_held + #taken, worker) -- may fail for want of memory
  extend_life(root .. 'idle')
end
return {more and 1 or 0, claimed}
