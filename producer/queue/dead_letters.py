"""Dead letters: jobs that were given up, kept for a while to be looked at, tried again, or dropped."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from producer.contract import Keys, Request, decode_request
from producer.errors import PayloadError, RequestError

# KEYS[1] root of the queue's keys, ARGV job id -> 1 if it was a dead letter
_REQUEUE = """
local root, id = KEYS[1], ARGV[1]
local job, request = root .. 'job:' .. id, root .. 'dead-request:' .. id
if redis.call('EXISTS', root .. 'dead:' .. id, request) < 2 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', root .. 'dead', id)
redis.call('UNLINK', root .. 'result:' .. id)
redis.call('RENAME', root .. 'dead:' .. id, job)
redis.call('PERSIST', job)
redis.call('RENAME', request, root .. 'request:' .. id)
redis.call('PERSIST', root .. 'request:' .. id)
local facts = redis.call('HMGET', job, 'bytes', 'score', 'enqueued')
-- A death put it behind others; more than the head start of the last may not be left of that.
local score = math.min(now + (facts[2] or now) - (facts[3] or facts[2] or now), now + 3600000)
redis.call('HDEL', job, 'code', 'message', 'died')
redis.call('HSET', job, 'tries', 0, 'enqueued', now, 'score', score)
if redis.call('HSET', job, 'run:', 1) == 1 then redis.call('HINCRBY', job, 'wanted', 1) end
redis.call('ZADD', root .. 'waiting', score, id)
redis.call('HINCRBY', root .. 'totals', 'bytes', facts[1] or 0)
redis.call('PUBLISH', root .. 'bell', '+')
return 1
"""

# KEYS[1] root of the queue's keys, ARGV job id -> 1 if it was a dead letter
_DROP = """
local root, id = KEYS[1], ARGV[1]
redis.call('ZREM', root .. 'dead', id)
return redis.call('UNLINK', root .. 'dead:' .. id, root .. 'dead-request:' .. id) > 0 and 1 or 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A job that was given up: why, after how many tries, and how long ago by the server's clock."""

    job: str
    code: str
    message: str
    tries: int
    num_texts: int
    num_bytes: int
    age_s: float


class DeadLetters:
    """Those of one queue. redis-py's errors pass through."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def list(self, *, max_letters: int) -> list[DeadLetter]:
        """The newest ones, newest first."""
        ids = await self._redis.zrevrange(self._keys.dead, 0, max_letters - 1)
        found = [await self.get(job.decode()) for job in ids]
        return [letter for letter in found if letter is not None]

    async def get(self, job: str) -> DeadLetter | None:
        """The one of that id."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self._keys.letter(job))
            pipe.time()
            facts, (seconds, micros) = await pipe.execute()
        return _letter(job, facts, now_ms=seconds * 1000 + micros // 1000) if facts else None

    async def request(self, job: str) -> Request | None:
        """What the job asked for; None if that is gone, or no request of ours."""
        payload = await self._redis.get(self._keys.dead_request(job))
        with suppress(PayloadError, RequestError):
            return None if payload is None else decode_request(payload)
        return None

    async def requeue(self, job: str) -> bool:
        """Put the job on its queue again as if new, whatever the queue's limits; False if it is not there.

        The answer that told of its failure goes. A job that killed workers runs alone again, from the start.
        """
        return await self._eval(_REQUEUE, job)

    async def drop(self, job: str) -> bool:
        """Forget it; False if it is not there."""
        return await self._eval(_DROP, job)

    async def _eval(self, script: str, job: str) -> bool:
        answer: Any = self._redis.eval(script, 1, self._keys.root, job)
        return bool(await answer)


def _letter(job: str, facts: Mapping[bytes, bytes], *, now_ms: int) -> DeadLetter:
    return DeadLetter(
        job=job,
        code=facts[b"code"].decode(),
        message=facts[b"message"].decode(),
        tries=int(facts.get(b"tries", 0)),
        num_texts=int(facts.get(b"texts", 0)),
        num_bytes=int(facts.get(b"bytes", 0)),
        age_s=(now_ms - int(facts[b"died"])) / 1000,
    )
