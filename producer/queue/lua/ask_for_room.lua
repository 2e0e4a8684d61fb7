--[[
  Asks whether the queue has room for a job, before its request is sent; a job that may be joined needs none. A client
  that finds none is told when there is room again; clients are told in the order in which they asked.

  KEYS[1] root of the queue's keys
  ARGV[1] id
  ARGV[2] client: '' if it does not wait
  ARGV[3] bytes
  ARGV[4] max_jobs
  ARGV[5] max_bytes

  Returns {how many such jobs have room, pending jobs}.
]]
--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
--- @include "make_room"
--- @include "forget_expired_answers"
local root = KEYS[1]
local id = ARGV[1]
local client = ARGV[2]
local bytes = tonumber(ARGV[3])
local max_jobs = tonumber(ARGV[4])
local max_bytes = tonumber(ARGV[5])

if client ~= '' then
  redis.call('ZADD', root .. 'waiting', 'NX', server_time(), client) -- fails if Redis has no memory left
  redis.call('PEXPIRE', root .. 'waiting', 60000)
end
local depth = redis.call('ZCARD', root .. 'pending')
local held_bytes = whole(hash_fields(root .. 'totals', 'bytes')[1]) or 0
if held_bytes > 0 and held_bytes + bytes > max_bytes then
  held_bytes = held_bytes - forget_expired_answers(root, server_time())
end
local fits = depth < max_jobs and (held_bytes <= 0 or held_bytes + bytes <= max_bytes)
local room = 0
if fits then
  room = math.max(1, math.min(max_jobs - depth, math.floor((max_bytes - held_bytes) / math.max(1, bytes))))
elseif redis.call('EXISTS', root .. 'job:' .. id, root .. 'result:' .. id) > 0 then
  room = 1
end
if room > 0 and client ~= '' then redis.call('ZREM', root .. 'waiting', client) end
if fits and room > 1 then make_room(root, 1) end
return {room, depth}
