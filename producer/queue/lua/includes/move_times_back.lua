--- @include "extend_life"
-- Follows a clock that stepped back by `step_ms`: leases end, and workers count as alive, no later than they would
-- have. The order of pending jobs is left as it is, and so are deadlines and the ends of keys.
local function move_times_back(root, step_ms, now)
  for _, name in ipairs({'leases', 'workers', 'starting'}) do
    local until_ms = redis.call('ZRANGE', root .. name, 0, -1, 'WITHSCORES')
    for place = 1, #until_ms, 2 do
      redis.call('ZREM', root .. name, until_ms[place]) -- needs no memory, unlike ZADD
      redis.call('ZADD', root .. name, tonumber(until_ms[place + 1]) - step_ms, until_ms[place])
    end
    extend_life(root .. name)
  end
  redis.call('HSET', root .. 'totals', 'heard', now)
end
