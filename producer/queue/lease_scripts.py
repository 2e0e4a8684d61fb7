"""The steps of a lease as scripts: each atomic, on the server's clock, with the queue's root as its only key.

The keys are listed in docs/delivery.md; what the steps promise is told in `worker.consumer.leases`. The
first write of each is one that needs no memory: where Redis has none left it lets a script that has begun to
write go on.
"""

_NOW = """
local root = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# died(id) puts back a job whose owner is gone: one that was on trial with that behind its trial, and as if it
# came 10 s later, so that others pass. A death burns no try: those are for errors that were survived.
# -> 0 if it had no owner but paused, 1 if it was not on trial, 2 if it was
_DIED = """
local function died(id)
  local job = root .. 'job:' .. id
  local facts = redis.call('HMGET', job, 'score', 'token', 'trial', 'on_trial')
  local score = facts[1] or now
  if facts[4] then score = math.min(score + 10000, now + 3600000) end
  redis.call('ZREM', root .. 'leases', id)
  redis.call('ZADD', root .. 'waiting', score, id)
  if not facts[2] then return 0 end
  redis.call('HSET', job, 'score', score, 'trial', (facts[3] or '') .. (facts[4] and '+' .. facts[4] or ''))
  redis.call('HDEL', job, 'token', 'on_trial')
  redis.call('HINCRBY', job, 'tries', -1)
  return facts[4] and 2 or 1
end
"""

# Where no worker at all was heard for a lease, Redis was away, or cut off: whoever was at work comes back
# with it, and has two leases to renew. So an outage ends no lease, and puts no job on trial.
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

# ARGV worker, most jobs, most bytes, lease in ms, a worker's presence in ms, most bytes of requests to tell
# -> {1 if some may be left waiting, jobs}, of each {id, token, tries, bytes, texts, waited in ms,
# request or nil, trial or nil}
# A worker may claim a job twice within a millisecond, so its tokens tell the microsecond. Small requests come
# along; of large ones a copy within the script would cost more than to ask for them.
CLAIM = (
    _NOW
    + _DIED
    + _SPARE
    + """
spare(tonumber(ARGV[5]), tonumber(ARGV[4]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now, 'LIMIT', 0, 128)) do
  if died(id) > 0 then redis.call('HINCRBY', root .. 'totals', 'lost_leases', 1) end
end
local claimed, bytes = {}, 0
local max_jobs, max_bytes, told = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[6])
local ids = redis.call('ZRANGEBYSCORE', root .. 'waiting', '-inf', now + 3600000, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local job = root .. 'job:' .. id
  local facts = redis.call('HMGET', job, 'bytes', 'texts', 'enqueued', 'trial')
  bytes = bytes + tonumber(facts[1] or '0')
  if #claimed > 0 and bytes > max_bytes then break end
  redis.call('ZREM', root .. 'waiting', id)
  local tries = redis.call('HINCRBY', job, 'tries', 1)
  local token = ARGV[1] .. ':' .. tries .. ':' .. time[1] .. string.format('%06d', time[2])
  redis.call('HSET', job, 'token', token)
  redis.call('ZADD', root .. 'leases', now + ARGV[4], id)
  local waited = now - (facts[3] or now)
  local request = bytes <= told and redis.call('GET', root .. 'request:' .. id)
  claimed[#claimed + 1] = {id, token, tries, facts[1] or 0, facts[2] or 0, waited, request, facts[4]}
end
return {(#claimed < #ids or #ids == max_jobs) and 1 or 0, claimed}
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

# ARGV id, token, trial, what is on trial -> 1 if it was ours to try
MARK = """
local job = KEYS[1] .. 'job:' .. ARGV[1]
if redis.call('HGET', job, 'token') ~= ARGV[2] then return 0 end
redis.call('HSET', job, 'trial', ARGV[3], 'on_trial', ARGV[4])
return 1
"""

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
redis.call('HINCRBY', root .. 'totals', 'bytes', 0 - tonumber(facts[2] or '0'))
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

# keep(id) files the letter of that id, whose hash and request are there, and removes what is beyond bounds.
# ARGV 6 code, message and tries of the letter; 9 how many ms, letters and bytes to keep
_KEEP = """
local function keep(id)
  local letters, letter = root .. 'dead', root .. 'dead:' .. id
  redis.call('HSET', letter, 'code', ARGV[6], 'message', ARGV[7], 'tries', ARGV[8], 'died', now)
  redis.call('PEXPIRE', letter, ARGV[9])
  redis.call('PEXPIRE', root .. 'dead-request:' .. id, ARGV[9])
  -- To the microsecond: of two in one millisecond the first is the older.
  redis.call('ZADD', letters, string.format('%.3f', time[1] * 1000 + time[2] / 1000), id)
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
end
"""

# as above -> 1 if it was ours to bury. A letter of a job that was on trial is on trial again when requeued.
BURY = (
    _ANSWER
    + _KEEP
    + """
redis.call('HDEL', job, 'token', 'on_trial')
if redis.call('HGET', job, 'trial') then redis.call('HSET', job, 'trial', '') end
redis.call('RENAME', job, root .. 'dead:' .. id)
if redis.call('EXISTS', request) == 1 then redis.call('RENAME', request, root .. 'dead-request:' .. id) end
keep(id)
return 1
"""
)

# as above, then id, staging token, bytes and texts of the letter -> 1 if it was ours to finish
# An id is on the queue or among the dead, never both: no letter for one that was requeued and still waits.
FINISH_WITH_LETTER = (
    _ANSWER
    + _KEEP
    + """
local letter, content = ARGV[12], root .. 'staged:' .. ARGV[13]
local facts = redis.call('HMGET', job, 'score', 'enqueued', 'keep')
redis.call('UNLINK', request, job)
if redis.call('EXISTS', content) == 1 and redis.call('EXISTS', root .. 'job:' .. letter) == 0 then
  redis.call('RENAME', content, root .. 'dead-request:' .. letter)
  redis.call('HSET', root .. 'dead:' .. letter, 'bytes', ARGV[14], 'texts', ARGV[15], 'trial', '',
    'score', facts[1] or now, 'enqueued', facts[2] or now, 'keep', facts[3] or 60000)
  keep(letter)
end
redis.call('UNLINK', content)
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
redis.call('HDEL', job, 'token', 'on_trial')
redis.call('HINCRBY', job, 'tries', 0 - tonumber(ARGV[4]))
if tonumber(ARGV[3]) > 0 then
  redis.call('ZADD', root .. 'leases', now + ARGV[3], ARGV[1])
else
  redis.call('ZREM', root .. 'leases', ARGV[1])
  redis.call('ZADD', root .. 'waiting', redis.call('HGET', job, 'score') or now, ARGV[1])
  redis.call('PUBLISH', root .. 'bell', '+')
end
return 1
"""
)

# ARGV name of a dead worker -> {jobs it held, how many of them were on trial}
HAND_BACK = (
    _NOW
    + _DIED
    + """
local owner, held, on_trial = ARGV[1] .. ':', 0, 0
redis.call('ZREM', root .. 'workers', ARGV[1])
redis.call('UNLINK', root .. 'worker:' .. ARGV[1])
for _, id in ipairs(redis.call('ZRANGE', root .. 'leases', 0, -1)) do
  local token = redis.call('HGET', root .. 'job:' .. id, 'token')
  if token and string.sub(token, 1, #owner) == owner then
    held = held + 1
    if died(id) == 2 then on_trial = on_trial + 1 end
  end
end
if held > 0 then
  redis.call('HINCRBY', root .. 'totals', 'lost_leases', held)
  redis.call('PUBLISH', root .. 'bell', '+')
end
return {held, on_trial}
"""
)
