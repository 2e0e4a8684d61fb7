--- @include "hash_fields"
--- @include "whole"
-- Adds to one of the queue's counters; one that is not a number any more starts again.
local function count(root, name, number)
  local totals = root .. 'totals'
  local counter = hash_fields(totals, name)[1]
  if counter and not whole(counter) then redis.call('HDEL', totals, name) end
  redis.call('HINCRBY', totals, name, number)
end
