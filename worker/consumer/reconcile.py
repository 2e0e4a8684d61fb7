"""Reconciles the counter of a queue's bytes with its jobs, since a lost job never subtracts its own."""

import time

import structlog
from redis.asyncio import Redis

from producer.contract import Keys

log = structlog.stdlib.get_logger(__name__)

INTERVAL_S = 60.0
MAX_JOBS = 20_000  # counting more would block Redis for more than some milliseconds

# KEYS[1] root of the queue's keys, ARGV worker, most jobs to look at
# -> the counter's excess in bytes; 0 if another worker does it, or if there are too many jobs
_RECONCILE = """
local root = KEYS[1]
for _, name in ipairs(redis.call('ZRANGE', root .. 'workers', 0, -1)) do
  if name < ARGV[1] then return 0 end
end
local sets = {root .. 'waiting', root .. 'leases'}
if redis.call('ZCARD', sets[1]) + redis.call('ZCARD', sets[2]) > tonumber(ARGV[2]) then return 0 end
local bytes = 0
for _, set in ipairs(sets) do
  for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    bytes = bytes + tonumber(redis.call('HGET', root .. 'job:' .. id, 'bytes') or '0')
  end
end
local counted = tonumber(redis.call('HGET', root .. 'totals', 'bytes') or '0')
if counted ~= bytes then
  redis.call('HDEL', root .. 'totals', 'bytes')
  redis.call('HSET', root .. 'totals', 'bytes', bytes)
end
return counted - bytes
"""


class Reconciler:
    """Sets the counter to the bytes of all pending and running jobs; the first live worker by name does it.

    Call it often: it acts once every `interval_s`, the first time at once. redis-py's errors pass through.
    """

    def __init__(self, keys: Keys, worker: str, *, interval_s: float = INTERVAL_S) -> None:
        self._keys = keys
        self._worker = worker
        self._interval_s = interval_s
        self._due_s = 0.0

    async def __call__(self, redis: Redis) -> None:
        """Reconcile if it is time."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self._interval_s
        excess = await redis.execute_command(
            "EVAL", _RECONCILE, 1, self._keys.root, self._worker, str(MAX_JOBS)
        )
        if excess:
            log.warning("reconciled", queue=self._keys.queue, bytes_too_many=excess)
