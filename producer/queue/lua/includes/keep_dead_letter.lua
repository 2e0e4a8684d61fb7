--- @include "server_time"
--- @include "hash_fields"
--- @include "whole"
-- Registers the dead letter `id`, whose hash and request are already in place, and removes the oldest dead letters
-- beyond the limits; the newest always stays.
-- `failure` has code, message and tries; `limits` has keep_ms, max_letters and max_bytes.
local function keep_dead_letter(root, id, failure, limits)
  local now, seconds, micros = server_time()
  local letters, letter = root .. 'dead', root .. 'dead:' .. id
  redis.call('HSET', letter, 'code', failure.code, 'message', failure.message, 'tries', failure.tries, 'died', now)
  redis.call('PEXPIRE', letter, limits.keep_ms)
  redis.call('PEXPIRE', root .. 'dead-request:' .. id, limits.keep_ms)
  -- To the microsecond: of two in one millisecond, the first is the older.
  redis.call('ZADD', letters, string.format('%.3f', seconds * 1000 + micros / 1000), id)
  redis.call('PEXPIRE', letters, limits.keep_ms)
  redis.call('ZREMRANGEBYSCORE', letters, '-inf', now - limits.keep_ms)
  local bytes = 0
  for place, old in ipairs(redis.call('ZREVRANGE', letters, 0, -1)) do
    bytes = bytes + (whole(hash_fields(root .. 'dead:' .. old, 'bytes')[1]) or 0)
    if place > 1 and (place > limits.max_letters or bytes > limits.max_bytes) then
      redis.call('UNLINK', root .. 'dead:' .. old, root .. 'dead-request:' .. old)
      redis.call('ZREM', letters, old)
    end
  end
end
