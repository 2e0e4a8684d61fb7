"""Dead letters: jobs that were given up, kept for a while to be inspected, requeued or dropped."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from producer.contract import Keys, Request, decode_request
from producer.errors import PayloadError, RequestError
from producer.queue.scripts import DROP_DEAD_LETTER, REQUEUE_DEAD_LETTER, Script


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
    """The dead letters of one queue. redis-py's errors pass through."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def list(self, *, max_dead_letters: int) -> list[DeadLetter]:
        """The newest dead letters, newest first."""
        ids = await self._redis.zrevrange(self._keys.dead_letters, 0, max_dead_letters - 1)
        found = [await self.get(job.decode()) for job in ids]
        return [letter for letter in found if letter is not None]

    async def get(self, job: str) -> DeadLetter | None:
        """The dead letter of that id, or None."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self._keys.dead_letter(job))
            pipe.time()
            facts, (seconds, micros) = await pipe.execute()
        return _dead_letter(job, facts, now_ms=seconds * 1000 + micros // 1000) if facts else None

    async def request(self, job: str) -> Request | None:
        """The job's request; None if it is gone or cannot be decoded."""
        payload = await self._redis.get(self._keys.dead_request(job))
        with suppress(PayloadError, RequestError):
            return None if payload is None else decode_request(payload)
        return None

    async def requeue(self, job: str) -> bool:
        """Enqueue the job again as if new, regardless of the limits; False if the dead letter does not exist.

        The result that reported its failure is removed. A job that killed workers is bisected again, from the
        start.
        """
        return await self._eval(REQUEUE_DEAD_LETTER, job)

    async def drop(self, job: str) -> bool:
        """Delete the dead letter; False if it does not exist."""
        return await self._eval(DROP_DEAD_LETTER, job)

    async def _eval(self, script: Script, job: str) -> bool:
        done: Any = self._redis.eval(*script.eval_args(self._keys.root, job))
        return bool(await done)


def _dead_letter(job: str, facts: Mapping[bytes, bytes], *, now_ms: int) -> DeadLetter:
    return DeadLetter(
        job=job,
        code=facts[b"code"].decode(),
        message=facts[b"message"].decode(),
        tries=int(facts.get(b"tries", 0)),
        num_texts=int(facts.get(b"texts", 0)),
        num_bytes=int(facts.get(b"bytes", 0)),
        age_s=(now_ms - int(facts[b"died"])) / 1000,
    )
