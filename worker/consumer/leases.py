"""Leases: the exclusive right to run a job, kept in Redis and claimed, renewed and given up by its owner.

Each step is one script on the queue's keys and on the server's clock. A job is pending (in the zset
`pending`) or leased (in the zset `leases`, until the time in its score). The next claim of any worker makes
jobs with expired leases pending again. The owner's token in the job's hash fences every outcome: a worker
that lost its lease writes nothing. A job that pauses before its next try is a lease without an owner.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from producer.contract import (
    DEAD_KEPT_S,
    FAILURE_KEPT_S,
    MAX_REQUEST_BYTES,
    Failure,
    Keys,
    encode_failure,
)
from producer.queue.deadlines import OVERDUE
from producer.queue.enqueue import STAGED_S
from producer.queue.scripts import (
    BURY,
    CLAIM,
    FINISH_WITH_DEAD_LETTER,
    MARK,
    RELEASE,
    RENEW,
    RETURN_STRAYS,
    Argument,
    Script,
)
from producer.transport.autopipeline import AutoPipeline
from worker.consumer.bisection import Bisection, Range
from worker.consumer.endings import Endings

_PRESENCE_LEASES = 4  # a worker counts as alive for this many lease lengths after its last renewal
_MAX_REQUEST_BYTES = 64 * 1024  # claims include their requests up to this total
_REQUEST = 7  # index of the request in a claim's row
MAX_DEAD = 1000
MAX_DEAD_BYTES = 256 * 1024 * 1024
MAX_REASON_CHARS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A leased job, ours until the lease expires; `tries` counts this try, but none that a death ended.

    The job must begin by `begin_by_s`, of this process's monotonic clock. `bisection` is the state of the
    search for killer texts if a worker died while it held the job, else None.
    """

    job: str
    token: str
    tries: int
    num_bytes: int
    num_texts: int
    waited_s: float
    begin_by_s: float = math.inf
    bisection: Bisection | None = None

    @property
    def is_overdue(self) -> bool:
        """True after the deadline: work that begins now would be in vain."""
        return time.monotonic() >= self.begin_by_s

    @property
    def num_deaths(self) -> int:
        """How many workers died while the job was being bisected."""
        return 0 if self.bisection is None else self.bisection.num_deaths


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeadLetter:
    """A dead letter to write for some texts of a job: its id, its encoded request, and the reason."""

    job: str
    request: bytes
    num_bytes: int
    num_texts: int
    failure: Failure
    tries: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a worker learns at a heartbeat.

    `lost` are the ids of jobs that it does not hold any more, `first_end_s` is when the first lease or pause
    of any job ends, in seconds from now, None if there is none.
    """

    lost: set[str]
    num_pending: int
    first_end_s: float | None


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job's encoded reply or failure, and the dead letter to keep with it, if any."""

    payload: bytes
    dead_letter: NewDeadLetter | None = None


_MALFORMED_JOB = Failure(
    code="malformed_job",
    message="the entry on the queue is not a job as clients write it: its id is not printable, or its hash "
    "is of another type or has a number that is not one; enqueue it with a client, and drop this with "
    "`producer dead drop`",
)


class Leases:
    """The claims of one worker on one queue. redis-py's errors pass through."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        worker: str,
        lease_s: float,
        describe: Callable[[], bytes] = bytes,
    ) -> None:
        self._redis = redis
        self._pipeline = AutoPipeline(redis)
        self._endings = Endings(self._pipeline, keys, worker=worker)
        self._keys = keys
        self._worker = worker
        self._lease_ms = int(lease_s * 1000)
        self._describe = describe
        self._held: set[str] = set()  # tokens
        self._claim_failed = False
        self.more_pending = True  #: False if the last claim left no job pending

    @property
    def wakeup(self) -> str:
        """The channel on which the worker is told of work and of cancelled jobs."""
        return self._keys.wakeup(self._worker)

    async def claim(
        self, max_jobs: int, max_bytes: int, *, small_bytes: int = 0
    ) -> list[tuple[Claim, bytes | None]]:
        """Claim the next jobs, with their requests; at least one if any is pending, however large.

        With `small_bytes` it takes only urgent ones of the next: of high priority, or not larger than that.
        """
        # If the reply to a claim was lost, Redis may have leased us jobs that we do not know of.
        if self._claim_failed:
            await self._eval(RETURN_STRAYS, self._worker, *self._held)
        self._claim_failed = True
        bounds = (str(max_jobs), str(max_bytes))
        limits = (str(_MAX_REQUEST_BYTES), *_malformed_arguments(), OVERDUE, str(small_bytes))
        arguments = (self._worker, str(len(self._held)), *bounds, str(self._lease_ms), *limits)
        # Sent once: what a claim leased whose reply was lost goes back before the next one.
        [claimed] = await self._pipeline.send_once(CLAIM.command(self._keys.root, *arguments))
        more_pending, rows = claimed
        jobs = [(_read_claim(row), row[_REQUEST]) for row in rows]
        if missing := [claim.job for claim, payload in jobs if payload is None]:
            found = iter(await asyncio.gather(*map(self._request, missing)))
            jobs = [(claim, next(found) if payload is None else payload) for claim, payload in jobs]
        self._claim_failed = False
        self.more_pending = bool(more_pending)
        self._held.update(claim.token for claim, _ in jobs)
        return jobs

    async def _request(self, job: str) -> bytes | None:
        """The request, cut off where it is too large for one; None if it is gone or of another type."""
        with suppress(ResponseError):
            end = str(MAX_REQUEST_BYTES)
            [found] = await self._pipeline.send(("GETRANGE", self._keys.request(job), "0", end))
            return found or None
        return None

    async def mark(self, claim: Claim, bisection: Bisection, tested: Range) -> bool:
        """Record that these texts are under test, before they are touched; False if the lease was lost."""
        return bool(await self._eval(MARK, claim.job, claim.token, bisection.encode(), str(tested)))

    async def finish(self, claim: Claim, result: JobResult) -> bool:
        """End the job with its result and keep its dead letter, in one step; False if the lease was lost."""
        dead_letter = result.dead_letter
        if dead_letter is None:
            is_written = await self._endings.write(claim.job, claim.token, result.payload)
            self._held.discard(claim.token)
            return is_written
        staging_token = f"{dead_letter.job}:{claim.token}:letter"
        await self._redis.set(self._keys.staged(staging_token), dead_letter.request, ex=STAGED_S)
        sizes = (str(dead_letter.num_bytes), str(dead_letter.num_texts))
        kept = _dead_letter_arguments(dead_letter.failure, dead_letter.tries)
        arguments = (*kept, dead_letter.job, staging_token, *sizes)
        return await self._end(FINISH_WITH_DEAD_LETTER, claim, result.payload, *arguments)

    async def bury(self, claim: Claim, failure: Failure, *, tries: int) -> bool:
        """End the job with its failure and keep it as a dead letter; False if the lease was lost.

        The oldest dead letters are removed beyond the limits on their number, bytes and age.
        """
        keep_ms = str(int(FAILURE_KEPT_S * 1000))
        return await self._end(
            BURY, claim, encode_failure(failure), keep_ms, *_dead_letter_arguments(failure, tries)
        )

    async def _end(self, script: Script, claim: Claim, result: bytes, *arguments: str) -> bool:
        staging_token = f"{claim.job}:{claim.token}"
        _, ended = await self._pipeline.send(
            ("SET", self._keys.staged(staging_token), result, "EX", str(STAGED_S)),
            script.command(self._keys.root, claim.job, claim.token, staging_token, *arguments),
        )
        self._held.discard(claim.token)
        return bool(ended)

    async def release(self, claim: Claim, *, pause_s: float = 0.0, burn_try: bool) -> bool:
        """Hand the job back, to be claimed by any worker after the pause; False if the lease was lost."""
        pause_ms, refund = str(int(pause_s * 1000)), "0" if burn_try else "1"
        released = await self._eval(RELEASE, claim.job, claim.token, pause_ms, refund)
        self._held.discard(claim.token)
        return bool(released)

    async def renew(self, redis: Redis, claims: Iterable[Claim]) -> Renewal:
        """Extend the leases, counted from now, through another client.

        This also shows that the worker is alive, with or without claims.
        """
        jobs = [part for claim in claims for part in (claim.job, claim.token)]
        lifetimes = (str(_PRESENCE_LEASES * self._lease_ms), str(self._lease_ms))
        lost, num_pending, first_end_ms = await redis.execute_command(
            *RENEW.command(self._keys.root, self._worker, *lifetimes, self._describe(), *jobs)
        )
        first_end_s = None if first_end_ms < 0 else first_end_ms / 1000
        return Renewal({job.decode() for job in lost}, num_pending, first_end_s)

    async def leave(self, redis: Redis) -> None:
        """Remove the worker from the live and the idle workers, and its record."""
        await redis.zrem(self._keys.idle, self._worker)
        await redis.zrem(self._keys.workers, self._worker)
        await redis.unlink(self._keys.worker(self._worker))

    async def ping(self) -> None:
        """Raises redis-py's errors if Redis does not answer."""
        await self._pipeline.send(("PING",))

    async def ask_for_memory(self) -> None:
        """Raises redis-py's error if Redis has no memory left for what it is sent."""
        probe = self._keys.staged(f"memory:{self._worker}")
        await self._pipeline.send(("SET", probe, "", "PX", str(STAGED_S)))

    async def _eval(self, script: Script, *arguments: Argument) -> Any:
        [returned] = await self._pipeline.send(script.command(self._keys.root, *arguments))
        return returned


def _read_claim(row: Sequence[Any]) -> Claim:
    job, token, tries, num_bytes, num_texts, waited_ms, left_ms, _, *bisection = row
    return Claim(
        job=job.decode(),
        token=token.decode(),
        tries=int(tries),
        num_bytes=int(num_bytes),
        num_texts=int(num_texts),
        waited_s=waited_ms / 1000,
        begin_by_s=time.monotonic() + left_ms / 1000,
        bisection=_read_bisection(*bisection),
    )


def _read_bisection(line: bytes | None = None) -> Bisection | None:
    """Decode the bisection; one that this version cannot read counts as new."""
    try:
        return None if line is None else Bisection.decode(line.decode())
    except ValueError:
        return Bisection()


def _malformed_arguments() -> tuple[Argument, ...]:
    """Arguments of a claim for entries that are not jobs."""
    kept_ms = str(int(FAILURE_KEPT_S * 1000))
    code, message, _, *limits = _dead_letter_arguments(_MALFORMED_JOB, 0)
    return (encode_failure(_MALFORMED_JOB), kept_ms, code, message, *limits)


def _dead_letter_arguments(failure: Failure, tries: int) -> tuple[str, ...]:
    """Arguments of the scripts that keep a dead letter: the reason, and the limits on all dead letters."""
    reason = (failure.code, failure.message[:MAX_REASON_CHARS], str(tries))
    return (*reason, str(int(DEAD_KEPT_S * 1000)), str(MAX_DEAD), str(MAX_DEAD_BYTES))
