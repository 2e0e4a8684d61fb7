--[[
  Deletes a dead letter.

  KEYS[1] root of the queue's keys
  ARGV[1] id

  Returns 1 if it was a dead letter, 0 if not.
]]
local root = KEYS[1]
local id = ARGV[1]

redis.call('ZREM', root .. 'dead', id)
return redis.call('UNLINK', root .. 'dead:' .. id, root .. 'dead-request:' .. id) > 0 and 1 or 0
