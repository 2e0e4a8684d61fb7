--- @include "hash_fields"
-- Extends expired leases if no worker at all was heard from for a whole lease, which means that Redis was down or
-- unreachable. The workers then have two lease periods to renew, so an outage ends no lease and starts no
-- bisection.
local function extend_leases_after_outage(root, now, presence_ms, lease_ms)
  local last_seen = redis.call('ZREVRANGE', root .. 'workers', 0, 0, 'WITHSCORES')[2]
  if not last_seen or now - (tonumber(last_seen) - presence_ms) <= lease_ms then return end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now)) do
    if hash_fields(root .. 'job:' .. id, 'token')[1] then
      redis.call('ZREM', root .. 'leases', id) -- needs no memory, unlike ZADD
      redis.call('ZADD', root .. 'leases', now + 2 * lease_ms, id)
    end
  end
end
