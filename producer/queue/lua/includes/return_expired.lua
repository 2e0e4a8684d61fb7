--- @include "count"
--- @include "hash_fields"
--- @include "notice_outage"
--- @include "return_to_pending"
-- Makes jobs pending again whose lease or pause is over, at most 64; after an outage only those that paused.
local function return_expired(root, now, lease_ms)
  local expired = redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now, 'LIMIT', 0, 64)
  if #expired == 0 then return end
  notice_outage(root, now, lease_ms)
  local suspended = redis.call('EXISTS', root .. 'outage') == 1
  for _, id in ipairs(expired) do
    local waits = suspended and hash_fields(root .. 'job:' .. id, 'token')[1]
    if not waits and return_to_pending(root, id, now) > 0 then count(root, 'lost_leases', 1) end
  end
end
