"""Dead letters: jobs that were given up, kept for a while to be inspected, requeued or dropped."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from producer.contract import MAX_REQUEST_BYTES, Keys, Request, decode_request
from producer.errors import PayloadError, RequestError
from producer.queue.deadlines import LIFE_S
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
        found = [await self.get(job.decode(errors="replace")) for job in ids]
        return [letter for letter in found if letter is not None]

    async def get(self, job: str) -> DeadLetter | None:
        """The dead letter of that id, or None."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self._keys.dead_letter(job))
            pipe.time()
            facts, (seconds, micros) = await pipe.execute(raise_on_error=False)
        if not facts or isinstance(facts, ResponseError):  # a key of another type
            return None
        return _dead_letter(job, facts, now_ms=seconds * 1000 + micros // 1000)

    async def request(self, job: str) -> Request | None:
        """The job's request; None if it is gone or cannot be decoded."""
        with suppress(PayloadError, RequestError, ResponseError):  # of another type
            payload: Any = await self._redis.getrange(self._keys.dead_request(job), 0, MAX_REQUEST_BYTES)
            return decode_request(payload) if payload else None
        return None

    async def requeue(self, job: str) -> bool:
        """Enqueue the job again as if new, regardless of the limits; False if the dead letter does not exist.

        The result that reported its failure is removed. A job that killed workers is bisected again, from the
        start.
        """
        return await self._eval(REQUEUE_DEAD_LETTER, job, str(int(LIFE_S * 1000)))

    async def drop(self, job: str) -> bool:
        """Delete the dead letter; False if it does not exist."""
        return await self._eval(DROP_DEAD_LETTER, job)

    async def _eval(self, script: Script, *arguments: str) -> bool:
        done: Any = self._redis.eval(*script.eval_args(self._keys.root, *arguments))
        return bool(await done)


def _dead_letter(job: str, facts: Mapping[bytes, bytes], *, now_ms: int) -> DeadLetter:
    return DeadLetter(
        job=job,
        code=facts.get(b"code", b"").decode(errors="replace"),
        message=facts.get(b"message", b"").decode(errors="replace"),
        tries=number(facts.get(b"tries")) or 0,
        num_texts=number(facts.get(b"texts")) or 0,
        num_bytes=number(facts.get(b"bytes")) or 0,
        age_s=(now_ms - (number(facts.get(b"died")) or now_ms)) / 1000,
    )


def number(field: bytes | None) -> int | None:
    """A number in a hash that anybody may have written; None if it is missing or not one."""
    with suppress(ValueError):
        return None if field is None else int(field)
    return None
