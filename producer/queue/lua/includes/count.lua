-- Adds to one of the queue's counters; one that is not a number any more starts again.
local function count(root, name, number)
  local totals = root .. 'totals'
  if type(redis.pcall('HINCRBY', totals, name, number)) ~= 'table' then return end
  redis.call('HDEL', totals, name)
  redis.call('HINCRBY', totals, name, number)
end
