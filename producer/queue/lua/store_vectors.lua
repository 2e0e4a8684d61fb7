--[[
  Stores vectors in the young generation of the vector cache.

  Entries are never deleted one by one: a full generation becomes the old one, and the old one is dropped.

  KEYS[1] root of the queue's keys
  ARGV[1] max_entries of one generation
  ARGV[2...] key and value of each entry

  Returns nothing.
]]
--- @include "extend_life"
local root = KEYS[1]
local max_entries = tonumber(ARGV[1])

local young, old = root .. 'vectors', root .. 'vectors-old'
local added = 0
for i = 2, #ARGV, 2 do
  local key, value = ARGV[i], ARGV[i + 1]
  added = added + redis.call('HSET', young, key, value)
end
extend_life(young)
if redis.call('HINCRBY', young, 'count', added) >= max_entries then
  redis.call('UNLINK', old)
  redis.call('RENAME', young, old)
end
