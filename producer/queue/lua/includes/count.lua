-- Adds to one of the queue's counters, and returns what it is then; one that is not a number any more starts again.
local function count(root, name, number)
  local totals = root .. 'totals'
  local total = redis.pcall('HINCRBY', totals, name, number)
  if type(total) ~= 'table' then return total end
  if not string.find(total.err, 'OOM') then redis.call('HDEL', totals, name) end
  return redis.call('HINCRBY', totals, name, number)
end
