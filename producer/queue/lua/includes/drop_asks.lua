--- @include "hash_fields"
--- @include "whole"
-- Takes back asks of a run for a job, all of them unless `number` is given; '' stands for callers without a run.
-- Returns how many asks are left, nil if the run had none.
local function drop_asks(root, id, run, number)
  local job, field = root .. 'job:' .. id, 'run:' .. run
  local fields = hash_fields(job, field, 'asks')
  local of_run = whole(fields[1])
  if not of_run then return nil end
  local dropped = math.min(of_run, number or of_run)
  local left = (whole(fields[2]) or dropped) - dropped
  if dropped == of_run then
    redis.call('HDEL', job, field)
  else
    redis.call('HSET', job, field, of_run - dropped)
  end
  redis.call('HSET', job, 'asks', left)
  return left
end
