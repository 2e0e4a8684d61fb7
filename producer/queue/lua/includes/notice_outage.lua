-- Suspends the expiry of leases if no worker at all was heard from for a whole lease, which means that Redis was down or
-- unreachable. The workers then have two lease periods to renew, so an outage ends no lease and starts no bisection.
local function notice_outage(root, now, presence_ms, lease_ms)
  local last_seen = redis.call('ZREVRANGE', root .. 'workers', 0, 0, 'WITHSCORES')[2]
  if not last_seen or now - (tonumber(last_seen) - presence_ms) <= lease_ms then return end
  redis.call('UNLINK', root .. 'outage') -- needs no memory, unlike SET
  redis.call('SET', root .. 'outage', 1, 'PX', 2 * lease_ms)
end
