--- @include "owner_of"
-- Takes a job from the worker that holds it with `token`, or out of its pause if there is none. Returns whether it was
-- leased or paused.
local function end_lease(root, id, token)
  local owner = owner_of(token)
  if owner then redis.call('SREM', root .. 'held:' .. owner, id) end
  return redis.call('ZREM', root .. 'leases', id) == 1
end
