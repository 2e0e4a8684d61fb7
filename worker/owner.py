"""Who holds leases: the names of worker processes, and what a dead one leaves behind."""

import os
import socket
from typing import Any
from uuid import uuid4

from redis import Redis

from producer.contract import Keys

# KEYS[1] root of the queue's keys, ARGV name of the dead worker -> how many jobs it held
_HAND_BACK = """
local root, owner = KEYS[1], ARGV[1] .. ':'
local held = 0
redis.call('ZREM', root .. 'workers', ARGV[1])
redis.call('UNLINK', root .. 'worker:' .. ARGV[1])
for _, id in ipairs(redis.call('ZRANGE', root .. 'leases', 0, -1)) do
  local job = root .. 'job:' .. id
  local facts = redis.call('HMGET', job, 'token', 'score')
  if facts[1] and string.sub(facts[1], 1, #owner) == owner then
    redis.call('HDEL', job, 'token')
    redis.call('ZREM', root .. 'leases', id)
    redis.call('ZADD', root .. 'waiting', facts[2] or 0, id)
    held = held + 1
  end
end
if held > 0 then
  redis.call('HINCRBY', root .. 'totals', 'lost_leases', held)
  redis.call('PUBLISH', root .. 'bell', '+')
end
return held
"""


def new_owner() -> str:
    """A name that no other worker process has, now or later."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


def hand_back(redis: Redis, keys: Keys, owner: str) -> int:
    """Put every job of a dead worker back on the queue, in one step; how many there were.

    Their try is burned, since one of them may have been the cause. redis-py's errors pass through.
    """
    held: Any = redis.eval(_HAND_BACK, 1, keys.root, owner)
    return int(held)
