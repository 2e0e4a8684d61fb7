--[[
  Deletes answers that were read, each unless others asked for it who have not consumed it yet.

  KEYS[1] root of the queue's keys
  ARGV[1...] id and size in bytes of each answer, in turn

  Returns how many were deleted.
]]
--- @include "whole"
--- @include "count"
--- @include "make_room"
local root = KEYS[1]

local answers, askers, digests = root .. 'answers', root .. 'askers', root .. 'digests'
local ids, sizes, members = {}, {}, {}
for i = 1, #ARGV, 2 do
  local id, size = ARGV[i], ARGV[i + 1]
  ids[#ids + 1], sizes[#sizes + 1], members[#members + 1] = id, size, size .. ' ' .. id
end
local is_shared = redis.call('EXISTS', askers, digests) > 0 -- mostly there are none
local asks = is_shared and redis.call('HMGET', askers, unpack(ids)) or {}
local ends = redis.call('ZMSCORE', answers, unpack(members))
local left, read, counted, results, freed = {}, {}, {}, {}, 0
for place, id in ipairs(ids) do
  left[id] = (left[id] or whole(asks[place]) or 1) - 1
  if left[id] > 0 then
    redis.call('HSET', askers, id, left[id])
  else
    read[#read + 1], results[#results + 1] = id, root .. 'result:' .. id
    if left[id] == 0 and ends[place] then
      counted[#counted + 1] = members[place]
      freed = freed + tonumber(sizes[place])
    end
  end
end
if #read == 0 then return 0 end
redis.call('UNLINK', unpack(results))
if is_shared then
  redis.call('HDEL', askers, unpack(read))
  redis.call('HDEL', digests, unpack(read))
end
if #counted > 0 then
  redis.call('ZREM', answers, unpack(counted))
  count(root, 'bytes', 0 - freed)
  make_room(root, 1) -- who finds more of it wakes the next
end
return #read
