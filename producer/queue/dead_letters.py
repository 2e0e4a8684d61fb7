"""Dead letters: jobs that were given up, kept for a while to be inspected, requeued or dropped."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from producer.contract import MAX_REQUEST_BYTES, Keys, Request, decode_request
from producer.errors import PayloadError, RequestError
from producer.queue.deadlines import LIFE_S
from producer.queue.paging import pages
from producer.queue.scripts import DROP_DEAD_LETTER, REQUEUE_DEAD_LETTER, Script

_JOBS_PER_STEP = 64  # a few milliseconds of the server's time
_LIFE_MS = str(int(LIFE_S * 1000))


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
        return await self._eval(REQUEUE_DEAD_LETTER, job, _LIFE_MS)

    async def drop(self, job: str) -> bool:
        """Delete the dead letter; False if it does not exist."""
        return await self._eval(DROP_DEAD_LETTER, job)

    async def requeue_all(self, *, code: str | None = None) -> Sequence[str]:
        """As `requeue`, for all dead letters, or those with this code; returns the ids of the jobs."""
        return await self._apply(REQUEUE_DEAD_LETTER, code, _LIFE_MS)

    async def drop_all(self, *, code: str | None = None) -> Sequence[str]:
        """As `drop`, for all dead letters, or those with this code; returns the ids of the jobs."""
        return await self._apply(DROP_DEAD_LETTER, code)

    async def _apply(self, script: Script, code: str | None, *arguments: str) -> Sequence[str]:
        """Run the script for each that is there now: one that fails again meanwhile is not met twice."""
        jobs = await self._with_code(code)
        done: list[str] = []
        for first in range(0, len(jobs), _JOBS_PER_STEP):
            step = jobs[first : first + _JOBS_PER_STEP]
            async with self._redis.pipeline(transaction=False) as pipe:
                for job in step:
                    pipe.eval(*script.eval_args(self._keys.root, job, *arguments))
                were_there = await pipe.execute()
            done += [job.decode(errors="replace") for job, was in zip(step, were_there, strict=True) if was]
        return done

    async def _with_code(self, code: str | None) -> Sequence[bytes]:
        """The ids of all dead letters, or of those with this code, oldest first."""
        found: list[bytes] = []
        prefix = self._keys.dead_letter("").encode()
        async for page in pages(self._redis, self._keys.dead_letters):
            async with self._redis.pipeline(transaction=False) as pipe:
                for job in page:
                    pipe.execute_command("HGET", prefix + job, "code")
                codes = await pipe.execute(raise_on_error=False) if page else []
            found += [
                job
                for job, one in zip(page, codes, strict=True)
                if code is None or (isinstance(one, bytes) and one.decode(errors="replace") == code)
            ]
        return found

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
