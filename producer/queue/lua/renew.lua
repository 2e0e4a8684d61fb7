--[[
  A worker's heartbeat: registers it, stores its record and extends the leases that it still owns. It also
  stops counting answers that have expired.

  KEYS[1] root of the queue's keys
  ARGV[1] worker
  ARGV[2] presence_ms: how long the worker counts as alive from now
  ARGV[3] lease_ms
  ARGV[4] record: what the worker reports about itself
  ARGV[5...] id and token of each job that the worker holds, in turn

  Returns {ids of jobs that the worker has lost, number of pending jobs, ms until the first lease or pause ends, -1 if
  there is none}.
]]
--- @include "server_time"
--- @include "notice_outage"
--- @include "hash_fields"
--- @include "extend_life"
--- @include "forget_expired_answers"
local root = KEYS[1]
local worker = ARGV[1]
local presence_ms = tonumber(ARGV[2])
local lease_ms = tonumber(ARGV[3])
local record = ARGV[4]

local now = server_time()
notice_outage(root, now, lease_ms)
redis.call('ZREMRANGEBYSCORE', root .. 'workers', '-inf', now)
if redis.call('ZADD', root .. 'workers', now + presence_ms, worker) == 1 then extend_life(root .. 'workers') end
redis.call('HSET', root .. 'totals', 'heard', now)
forget_expired_answers(root, now)
redis.call('SET', root .. 'worker:' .. worker, record, 'PX', presence_ms)
redis.call('PEXPIRE', root .. 'idle', presence_ms)
local lost, ends = {}, {}
for i = 5, #ARGV, 2 do
  local id, token = ARGV[i], ARGV[i + 1]
  if hash_fields(root .. 'job:' .. id, 'token')[1] == token then
    ends[#ends + 1], ends[#ends + 2] = now + lease_ms, id
  else
    lost[#lost + 1] = id
  end
end
if #ends > 0 then redis.call('ZADD', root .. 'leases', 'XX', unpack(ends)) end
local first = redis.call('ZRANGE', root .. 'leases', 0, 0, 'WITHSCORES')[2]
return {lost, redis.call('ZCARD', root .. 'pending'), first and math.max(0, math.ceil(first - now)) or -1}
