--[[
  Leases the next pending jobs, in order of their scores, to a worker; at least one if any is pending, however
  large. First it returns to pending what expired leases and finished pauses have freed, at most 128 a call.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2] max_jobs
  ARGV[3] max_bytes
  ARGV[4] lease_ms
  ARGV[5] presence_ms: how long a worker counts as alive after its last heartbeat
  ARGV[6] max_request_bytes: up to this total, requests are returned with their claims; copying large ones
          inside a script costs more than asking for them

  Returns {1 if jobs may be left, jobs}; of each job
  {id, token, tries, bytes, texts, ms since it was enqueued, request or nil, bisection or nil}.
]]
--- @include "server_time"
--- @include "return_to_pending"
--- @include "extend_leases_after_outage"
local root = KEYS[1]
local worker = ARGV[1]
local max_jobs = tonumber(ARGV[2])
local max_bytes = tonumber(ARGV[3])
local lease_ms = tonumber(ARGV[4])
local presence_ms = tonumber(ARGV[5])
local max_request_bytes = tonumber(ARGV[6])

local now, seconds, micros = server_time()
extend_leases_after_outage(root, now, presence_ms, lease_ms)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now, 'LIMIT', 0, 128)) do
  if return_to_pending(root, id, now) > 0 then redis.call('HINCRBY', root .. 'totals', 'lost_leases', 1) end
end

local max_deferral_ms = 3600000 -- low priority scores lie in the future
local claimed, bytes = {}, 0
local ids = redis.call('ZRANGEBYSCORE', root .. 'pending', '-inf', now + max_deferral_ms, 'LIMIT', 0, max_jobs)
for _, id in ipairs(ids) do
  local job = root .. 'job:' .. id
  local fields = redis.call('HMGET', job, 'bytes', 'texts', 'enqueued', 'bisection')
  bytes = bytes + tonumber(fields[1] or '0')
  if #claimed > 0 and bytes > max_bytes then break end
  redis.call('ZREM', root .. 'pending', id)
  local tries = redis.call('HINCRBY', job, 'tries', 1)
  -- To the microsecond: a worker may claim a job twice within a millisecond.
  local token = worker .. ':' .. tries .. ':' .. seconds .. string.format('%06d', micros)
  redis.call('HSET', job, 'token', token)
  redis.call('ZADD', root .. 'leases', now + lease_ms, id)
  local waited_ms = now - tonumber(fields[3] or now)
  local request = bytes <= max_request_bytes and redis.call('GET', root .. 'request:' .. id)
  claimed[#claimed + 1] = {id, token, tries, fields[1] or 0, fields[2] or 0, waited_ms, request, fields[4]}
end
return {(#claimed < #ids or #ids == max_jobs) and 1 or 0, claimed}
