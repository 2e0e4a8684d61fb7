"""Leases: the exclusive right to run a job, kept in Redis and claimed, renewed and given up by its owner.

Each step is one script on the queue's keys and on the server's clock. A job is pending (in the zset
`pending`) or leased (in the zset `leases`, until the time in its score). The next claim of any worker makes
jobs with expired leases pending again. The owner's token in the job's hash fences every ending: a worker that
lost the lease writes nothing. A job that pauses before its next try is a lease without an owner.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis as SyncRedis
from redis.asyncio import Redis

from producer.contract import DEAD_KEPT_S, FAILURE_KEPT_S, Failure, Keys, encode_failure
from producer.queue.scripts import (
    BURY,
    CLAIM,
    FINISH,
    FINISH_WITH_DEAD_LETTER,
    MARK,
    RELEASE,
    RENEW,
    RETURN_STRAYS,
    Script,
)
from producer.transport.autopipeline import AutoPipeline
from worker.consumer.bisection import Bisection, Range

_PRESENCE_LEASES = 4  # how many leases long a worker counts as alive after its last sign of life
STAGED_S = 60  # how long a result may stay between its two commands
_MAX_REQUEST_BYTES = 64 * 1024  # of texts: requests up to this total come with their claims
_REQUEST = 6  # its index in a claim's row
MAX_DEAD = 1000
MAX_DEAD_BYTES = 256 * 1024 * 1024
MAX_REASON_CHARS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job that is ours until its lease expires; `tries` includes this one, but none that a death ended.

    `bisection` is what is known of a job that a worker held when it died; None for all others.
    """

    job: str
    token: str
    tries: int
    num_bytes: int
    num_texts: int
    waited_s: float
    bisection: Bisection | None = None

    @property
    def num_deaths(self) -> int:
        """How many workers died while the job was being bisected."""
        return 0 if self.bisection is None else self.bisection.num_deaths


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeadLetter:
    """Some texts of a job as a dead letter of their own: its id, its encoded request, and the reason."""

    job: str
    request: bytes
    num_bytes: int
    num_texts: int
    failure: Failure
    tries: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job's encoded reply or failure, and the dead letter to keep of it, if any."""

    payload: bytes
    dead_letter: NewDeadLetter | None = None


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
        self._keys = keys
        self._worker = worker
        self._lease_ms = int(lease_s * 1000)
        self._describe = describe
        self._held: set[str] = set()
        self._claim_failed = False
        self.some_left = True  #: False if the last claim left no job pending

    async def claim(self, max_jobs: int, max_bytes: int) -> list[tuple[Claim, bytes | None]]:
        """Claim the next jobs, with their requests; at least one if any is pending, however large."""
        # Redis may have run a claim whose reply was lost: then jobs are leased to us that we know nothing of.
        if self._claim_failed:
            await self._eval(RETURN_STRAYS, self._worker, *self._held)
        self._claim_failed = True
        lease = (str(self._lease_ms), str(_PRESENCE_LEASES * self._lease_ms))
        bounds = (str(max_jobs), str(max_bytes))
        some_left, rows = await self._eval(CLAIM, self._worker, *bounds, *lease, str(_MAX_REQUEST_BYTES))
        jobs = [(_read_claim(row), row[_REQUEST]) for row in rows]
        if missing := [self._keys.request(claim.job) for claim, payload in jobs if payload is None]:
            found = iter(await self._redis.mget(missing))
            jobs = [(claim, next(found) if payload is None else payload) for claim, payload in jobs]
        self._claim_failed = False
        self.some_left = bool(some_left)
        self._held.update(claim.token for claim, _ in jobs)
        return jobs

    async def mark(self, claim: Claim, bisection: Bisection, some: Range) -> bool:
        """Record, before these texts are touched, that they are under test; False if the lease was lost."""
        return bool(await self._eval(MARK, claim.job, claim.token, bisection.encode(), str(some)))

    async def finish(self, claim: Claim, result: JobResult) -> bool:
        """End the job with its result and keep its dead letter, in one step; False if the lease was lost."""
        letter = result.dead_letter
        if letter is None:
            return await self._end(FINISH, claim, result.payload)
        staging_token = f"{letter.job}:{claim.token}:letter"
        await self._redis.set(self._keys.staged(staging_token), letter.request, ex=STAGED_S)
        sizes = (str(letter.num_bytes), str(letter.num_texts))
        terms = (*_dead_letter_terms(letter.failure, letter.tries), letter.job, staging_token, *sizes)
        return await self._end(FINISH_WITH_DEAD_LETTER, claim, result.payload, *terms)

    async def bury(self, claim: Claim, failure: Failure, *, tries: int) -> bool:
        """End the job with its failure and keep it as a dead letter; False if the lease was lost.

        The oldest dead letters are removed beyond the limits on their number, bytes and age.
        """
        keep_ms = str(int(FAILURE_KEPT_S * 1000))
        return await self._end(
            BURY, claim, encode_failure(failure), keep_ms, *_dead_letter_terms(failure, tries)
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

    def renew(self, redis: SyncRedis, claims: Iterable[Claim]) -> set[str]:
        """Extend the leases from now on, through a blocking connection; the ids of jobs that are lost.

        This is also the worker's sign of life, with or without claims.
        """
        jobs = [part for claim in claims for part in (claim.job, claim.token)]
        terms = (str(_PRESENCE_LEASES * self._lease_ms), str(self._lease_ms))
        lost: Any = redis.eval(
            *RENEW.eval_args(self._keys.root, self._worker, *terms, self._describe(), *jobs)
        )
        return {job.decode() for job in lost}

    def leave(self, redis: SyncRedis) -> None:
        """Remove the worker's sign of life and its record."""
        redis.zrem(self._keys.workers, self._worker)
        redis.unlink(self._keys.worker(self._worker))

    async def _eval(self, script: Script, *arguments: str) -> Any:
        [returned] = await self._pipeline.send(script.command(self._keys.root, *arguments))
        return returned


def _read_claim(row: Sequence[Any]) -> Claim:
    job, token, tries, num_bytes, num_texts, waited_ms, _, *bisection = row
    return Claim(
        job=job.decode(),
        token=token.decode(),
        tries=int(tries),
        num_bytes=int(num_bytes),
        num_texts=int(num_texts),
        waited_s=waited_ms / 1000,
        bisection=_read_bisection(*bisection),
    )


def _read_bisection(line: bytes | None = None) -> Bisection | None:
    """A line that no worker of this version wrote counts as a bisection that has just begun."""
    try:
        return None if line is None else Bisection.decode(line.decode())
    except ValueError:
        return Bisection()


def _dead_letter_terms(failure: Failure, tries: int) -> tuple[str, ...]:
    """The arguments of scripts that keep a dead letter: the reason, and the limits on all dead letters."""
    why = (failure.code, failure.message[:MAX_REASON_CHARS], str(tries))
    return (*why, str(int(DEAD_KEPT_S * 1000)), str(MAX_DEAD), str(MAX_DEAD_BYTES))
