--[[
  Ends a queue's pause and wakes its workers.

  KEYS[1] root of the queue's keys

  Returns 1 if the queue was paused, 0 if not.
]]
--- @include "ring"
local root = KEYS[1]

local was_paused = redis.call('UNLINK', root .. 'paused')
if was_paused == 1 then ring(root) end
return was_paused
