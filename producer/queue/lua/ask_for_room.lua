--[[
  Asks whether the queue has room for a job, before its request is sent. A client that finds none is told when there is
  room again; clients are told in the order in which they asked.

  KEYS[1] root of the queue's keys
  ARGV[1] client: '' if it does not wait
  ARGV[2] bytes
  ARGV[3] max_jobs
  ARGV[4] max_bytes

  Returns {jobs that have room, pending jobs}.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "make_room"
local root = KEYS[1]
local client = ARGV[1]
local bytes = tonumber(ARGV[2])
local max_jobs = tonumber(ARGV[3])
local max_bytes = tonumber(ARGV[4])

if client ~= '' then
  redis.call('ZADD', root .. 'waiting', 'NX', server_time(), client) -- fails if Redis has no memory left
  redis.call('PEXPIRE', root .. 'waiting', 60000)
end
local depth = redis.call('ZCARD', root .. 'pending')
local held_bytes = whole(hash_fields(root .. 'totals', 'bytes')[1]) or 0
local fits = held_bytes == 0 or held_bytes + bytes <= max_bytes
if depth >= max_jobs or not fits then return {0, depth} end
local room = held_bytes == 0 and 1 or math.floor((max_bytes - held_bytes) / math.max(1, bytes))
room = math.max(1, math.min(max_jobs - depth, room))
redis.call('ZREM', root .. 'waiting', client)
if room > 1 then make_room(root, 1) end
return {room, depth}
