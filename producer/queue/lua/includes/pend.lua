--- @include "extend_life"
-- Makes a job pending.
local function pend(root, id, score)
  redis.call('ZADD', root .. 'pending', score, id)
  extend_life(root .. 'pending')
end
