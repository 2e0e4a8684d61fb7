"""The steps of a lease as scripts: each atomic, on the server's clock, with the queue's root as its only key.

The keys are listed in docs/delivery.md; what the steps promise is told in `worker.leases`. The first write
of each is one that needs no memory: where Redis has none left it lets a script that has begun to write go on.
"""

_NOW = """
local root = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# Where no worker at all was heard for a lease, Redis was away, or cut off: whoever was at work comes back
# with it, and has two leases to renew. So an outage ends no lease, and burns no try.
_SPARE = """
local function spare(presence, lease)
  local last = redis.call('ZREVRANGE', root .. 'workers', 0, 0, 'WITHSCORES')[2]
  if not last or now - (last - presence) <= lease then return end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now)) do
    if redis.call('HGET', root .. 'job:' .. id, 'token') then
      redis.call('ZREM', root .. 'leases', id)
      redis.call('ZADD', root .. 'leases', now + 2 * lease, id)
    end
  end
end
"""

# ARGV worker token, most jobs, most bytes, lease in ms, a worker's presence in ms
# -> {id, tries, bytes, texts, enqueued, now} each
CLAIM = (
    _NOW
    + _SPARE
    + """
spare(tonumber(ARGV[5]), tonumber(ARGV[4]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now, 'LIMIT', 0, 128)) do
  redis.call('ZREM', root .. 'leases', id)
  redis.call('ZADD', root .. 'waiting', redis.call('HGET', root .. 'job:' .. id, 'score') or now, id)
  if redis.call('HDEL', root .. 'job:' .. id, 'token') == 1 then
    redis.call('HINCRBY', root .. 'totals', 'lost_leases', 1)
  end
end
local claimed, bytes = {}, 0
local ids = redis.call('ZRANGEBYSCORE', root .. 'waiting', '-inf', now + 3600000, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local job = root .. 'job:' .. id
  local facts = redis.call('HMGET', job, 'bytes', 'texts', 'enqueued')
  bytes = bytes + tonumber(facts[1] or '0')
  if #claimed > 0 and bytes > tonumber(ARGV[3]) then break end
  redis.call('ZREM', root .. 'waiting', id)
  local tries = redis.call('HINCRBY', job, 'tries', 1)
  redis.call('HSET', job, 'token', ARGV[1] .. ':' .. tries .. ':' .. now)
  redis.call('ZADD', root .. 'leases', now + ARGV[4], id)
  claimed[#claimed + 1] = {id, tries, facts[1] or '0', facts[2] or '0', facts[3] or now, now}
end
return claimed
"""
)

# ARGV worker, its presence in ms, lease in ms, its record, then id and token of each job -> ids we lost
RENEW = (
    _NOW
    + _SPARE
    + """
spare(tonumber(ARGV[2]), tonumber(ARGV[3]))
redis.call('ZREMRANGEBYSCORE', root .. 'workers', '-inf', now)
redis.call('ZADD', root .. 'workers', now + ARGV[2], ARGV[1])
redis.call('SET', root .. 'worker:' .. ARGV[1], ARGV[4], 'PX', ARGV[2])
local lost = {}
for i = 5, #ARGV, 2 do
  if redis.call('HGET', root .. 'job:' .. ARGV[i], 'token') == ARGV[i + 1] then
    redis.call('ZADD', root .. 'leases', 'XX', now + ARGV[3], ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
"""
)

# ARGV id, token, staging token of the answer, keep in ms, counter
_ANSWER = (
    _NOW
    + """
local id, staged = ARGV[1], root .. 'staged:' .. ARGV[3]
local job, request = root .. 'job:' .. id, root .. 'request:' .. id
local facts = redis.call('HMGET', job, 'token', 'bytes', 'keep')
if facts[1] ~= ARGV[2] or redis.call('EXISTS', staged) == 0 then
  redis.call('UNLINK', staged)
  return 0
end
redis.call('RENAME', staged, root .. 'result:' .. id)
local keep = tonumber(ARGV[4] ~= '' and ARGV[4] or facts[3] or 60000)
redis.call('PEXPIRE', root .. 'result:' .. id, math.max(1, keep))
redis.call('ZREM', root .. 'leases', id)
redis.call('HINCRBY', root .. 'totals', 'bytes', -tonumber(facts[2] or '0'))
redis.call('HINCRBY', root .. 'totals', ARGV[5], 1)
redis.call('PUBLISH', root .. 'events', id)
"""
)

# as above -> 1 if it was ours to finish
FINISH = (
    _ANSWER
    + """
redis.call('UNLINK', request, job)
return 1
"""
)

# as above, then code, message and tries of the job, and how many ms, letters and bytes to keep
# -> 1 if it was ours to bury
BURY = (
    _ANSWER
    + """
local letters = root .. 'dead'
redis.call('HDEL', job, 'token')
redis.call('HSET', job, 'code', ARGV[6], 'message', ARGV[7], 'tries', ARGV[8], 'died', now)
redis.call('RENAME', job, root .. 'dead:' .. id)
redis.call('PEXPIRE', root .. 'dead:' .. id, ARGV[9])
if redis.call('EXISTS', request) == 1 then
  redis.call('RENAME', request, root .. 'dead-request:' .. id)
  redis.call('PEXPIRE', root .. 'dead-request:' .. id, ARGV[9])
end
redis.call('ZADD', letters, now, id)
redis.call('PEXPIRE', letters, ARGV[9])
redis.call('ZREMRANGEBYSCORE', letters, '-inf', now - ARGV[9])
local bytes = 0
for place, old in ipairs(redis.call('ZREVRANGE', letters, 0, -1)) do
  bytes = bytes + tonumber(redis.call('HGET', root .. 'dead:' .. old, 'bytes') or '0')
  if place > 1 and (place > tonumber(ARGV[10]) or bytes > tonumber(ARGV[11])) then
    redis.call('UNLINK', root .. 'dead:' .. old, root .. 'dead-request:' .. old)
    redis.call('ZREM', letters, old)
  end
end
return 1
"""
)

# ARGV worker, then the tokens of what it holds -> how many of its leases nobody works on went back
RETURN_STRAYS = (
    _NOW
    + """
local owner, held, returned = ARGV[1] .. ':', {}, 0
for i = 2, #ARGV do held[ARGV[i]] = true end
for _, id in ipairs(redis.call('ZRANGE', root .. 'leases', 0, -1)) do
  local job = root .. 'job:' .. id
  local facts = redis.call('HMGET', job, 'token', 'score')
  if facts[1] and string.sub(facts[1], 1, #owner) == owner and not held[facts[1]] then
    redis.call('HDEL', job, 'token')
    redis.call('HINCRBY', job, 'tries', -1)
    redis.call('ZREM', root .. 'leases', id)
    redis.call('ZADD', root .. 'waiting', facts[2] or now, id)
    returned = returned + 1
  end
end
return returned
"""
)

# ARGV id, token, pause in ms, tries to give back -> 1 if it was ours to release
RELEASE = (
    _NOW
    + """
local job = root .. 'job:' .. ARGV[1]
if redis.call('HGET', job, 'token') ~= ARGV[2] then return 0 end
redis.call('HDEL', job, 'token')
redis.call('HINCRBY', job, 'tries', -tonumber(ARGV[4]))
if tonumber(ARGV[3]) > 0 then
  redis.call('ZADD', root .. 'leases', now + ARGV[3], ARGV[1])
else
  redis.call('ZREM', root .. 'leases', ARGV[1])
  redis.call('ZADD', root .. 'waiting', redis.call('HGET', job, 'score') or now, ARGV[1])
  redis.call('PUBLISH', root .. 'events', '+')
end
return 1
"""
)
