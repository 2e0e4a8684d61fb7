"""How a job is taken off its queue before its time."""

from typing import Any

from redis.asyncio import Redis

from producer.contract import FAILURE_KEPT_S, Failure, Keys, encode_failure

CANCELLED = Failure(code="cancelled", message="the job was cancelled")

# KEYS[1] root of the queue's keys
# ARGV job id, the answer, its keep in ms -> 1 if the job was on the queue
_CANCEL = """
local root, id = KEYS[1], ARGV[1]
local job = root .. 'job:' .. id
if redis.call('ZREM', root .. 'waiting', id) + redis.call('ZREM', root .. 'leases', id) == 0 then
  return 0
end
redis.call('SET', root .. 'result:' .. id, ARGV[2], 'PX', ARGV[3])
redis.call('HINCRBY', root .. 'totals', 'bytes', -tonumber(redis.call('HGET', job, 'bytes') or '0'))
redis.call('HINCRBY', root .. 'totals', 'cancelled', 1)
redis.call('UNLINK', root .. 'request:' .. id, job)
redis.call('PUBLISH', root .. 'events', id)
redis.call('PUBLISH', root .. 'bell', '-' .. id)
return 1
"""


async def cancel(redis: Redis, keys: Keys, job: str) -> bool:
    """Answer a waiting or running job with the failure `cancelled`; False if there is none of that id.

    With the job's hash its owner's token is gone, so a worker that runs it can write nothing any more; it is
    told to stop. redis-py's errors pass through.
    """
    keep_ms = str(int(FAILURE_KEPT_S * 1000))
    arguments: tuple[Any, ...] = (keys.root, job, encode_failure(CANCELLED), keep_ms)
    ended: Any = redis.eval(_CANCEL, 1, *arguments)
    return bool(await ended)
