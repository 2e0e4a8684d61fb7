--- @include "hash_fields"
--- @include "whole"
--- @include "move_times_back"
-- Suspends the expiry of leases if no worker at all was heard from for a whole lease, which means that Redis was down or
-- unreachable, or that its clock stepped forward. The workers then have two lease periods to renew, so that neither
-- ends a lease or starts a bisection. If the last heartbeat lies in the future, the clock stepped back.
local function notice_outage(root, now, lease_ms)
  local heard = whole(hash_fields(root .. 'totals', 'heard')[1])
  if heard and heard > now + 1000 then move_times_back(root, heard - now, now) end
  if not heard or now - heard <= lease_ms or redis.call('EXISTS', root .. 'leases') == 0 then return end
  redis.call('UNLINK', root .. 'outage') -- needs no memory, unlike SET
  redis.call('SET', root .. 'outage', 1, 'PX', 2 * lease_ms)
end
