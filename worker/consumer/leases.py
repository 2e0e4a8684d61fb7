"""The right to run a job, kept in Redis: claimed, renewed, and given up by its owner only.

Every step is one script on the queue's keys and on the server's clock. A job is waiting (in the zset
`waiting`) or leased (in the zset `leases` until the time in its score); a lease that has run out puts its
job back to waiting at the next claim of any worker. The owner token in the job's hash fences every way of
finishing: whoever lost the lease writes nothing. A job that pauses before its next try is a lease without
an owner.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from producer.contract import DEAD_KEPT_S, FAILURE_KEPT_S, Failure, Keys, encode_failure
from producer.queue.lease_scripts import (
    BURY,
    CLAIM,
    FINISH,
    FINISH_WITH_LETTER,
    MARK,
    RELEASE,
    RENEW,
    RETURN_STRAYS,
)
from producer.transport.autopipeline import AutoPipeline
from worker.consumer.bisection import Bisection, Range

_PRESENCE_LEASES = 4  # a worker counts as alive so many leases after its last sign of life
STAGED_S = 60  # how long an answer may lie between its two commands
_TOLD_BYTES = 64 * 1024  # of texts, whose requests come with their claims
_REQUEST = 6  # its place in a claim's row
MAX_DEAD = 1000
MAX_DEAD_BYTES = 256 * 1024 * 1024
MAX_REASON_CHARS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job that is ours until its lease runs out; `tries` counts this one, but none that a death ended.

    `trial` is what is known of a job that was held by a worker when that died; None for all others.
    """

    job: str
    token: str
    tries: int
    num_bytes: int
    num_texts: int
    waited_s: float
    trial: Bisection | None = None

    @property
    def num_deaths(self) -> int:
        """How many workers died while the job was on trial."""
        return 0 if self.trial is None else self.trial.num_deaths


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeadLetter:
    """Some texts of a job as a dead letter of their own: under which id, their encoded request, and why."""

    job: str
    request: bytes
    num_bytes: int
    num_texts: int
    failure: Failure
    tries: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job's encoded reply or failure, and the letter that is to be kept of it, if any."""

    payload: bytes
    letter: NewDeadLetter | None = None


class Leases:
    """One worker's claims on one queue. redis-py's errors pass through."""

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
        self._outbox = AutoPipeline(redis)
        self._keys = keys
        self._worker = worker
        self._lease_ms = int(lease_s * 1000)
        self._describe = describe
        self._held: set[str] = set()
        self._claim_failed = False
        self.some_left = True  #: False if the last claim left no job waiting

    async def claim(self, max_jobs: int, max_bytes: int) -> list[tuple[Claim, bytes | None]]:
        """The next jobs in order with their requests; at least one if any waits, however large."""
        # Redis may have done what we got no reply to: then jobs are leased to us that we know nothing of.
        if self._claim_failed:
            await self._eval(RETURN_STRAYS, self._worker, *self._held)
        self._claim_failed = True
        lease = (str(self._lease_ms), str(_PRESENCE_LEASES * self._lease_ms))
        bounds = (str(max_jobs), str(max_bytes))
        some_left, rows = await self._eval(CLAIM, self._worker, *bounds, *lease, str(_TOLD_BYTES))
        jobs = [(_read_claim(row), row[_REQUEST]) for row in rows]
        if untold := [self._keys.request(claim.job) for claim, payload in jobs if payload is None]:
            found = iter(await self._redis.mget(untold))
            jobs = [(claim, next(found) if payload is None else payload) for claim, payload in jobs]
        self._claim_failed = False
        self.some_left = bool(some_left)
        self._held.update(claim.token for claim, _ in jobs)
        return jobs

    async def mark(self, claim: Claim, trial: Bisection, some: Range) -> bool:
        """Let it be known, before these texts are touched, that they run alone; False if it was lost."""
        return bool(await self._eval(MARK, claim.job, claim.token, trial.encode(), str(some)))

    async def finish(self, claim: Claim, answer: JobResult) -> bool:
        """Make the answer visible, keep its letter, and forget the job, in one step; False if it was lost."""
        letter = answer.letter
        if letter is None:
            return await self._answer(FINISH, claim, answer.payload, "", "done")
        content = f"{letter.job}:{claim.token}:letter"
        await self._redis.set(self._keys.staged(content), letter.request, ex=STAGED_S)
        sizes = (str(letter.num_bytes), str(letter.num_texts))
        terms = (*_terms(letter.failure, letter.tries), letter.job, content, *sizes)
        return await self._answer(FINISH_WITH_LETTER, claim, answer.payload, "", "done", *terms)

    async def bury(self, claim: Claim, failure: Failure, *, tries: int) -> bool:
        """Answer the job with its failure and keep it as a dead letter, in one step; False if it was lost.

        The oldest dead letters go where there are more than may be, in number, bytes or age.
        """
        keep_ms = str(int(FAILURE_KEPT_S * 1000))
        terms = _terms(failure, tries)
        return await self._answer(BURY, claim, encode_failure(failure), keep_ms, "failed", *terms)

    async def _answer(self, script: str, claim: Claim, answer: bytes, *arguments: str) -> bool:
        staging = f"{claim.job}:{claim.token}"
        _, finished = await self._outbox.send(
            ("SET", self._keys.staged(staging), answer, "EX", str(STAGED_S)),
            ("EVAL", script, "1", self._keys.root, claim.job, claim.token, staging, *arguments),
        )
        self._held.discard(claim.token)
        return bool(finished)

    async def release(self, claim: Claim, *, pause_s: float = 0.0, burn_try: bool) -> bool:
        """Hand the job back for anybody to claim after the pause; False if the lease was lost."""
        pause_ms, refund = str(int(pause_s * 1000)), "0" if burn_try else "1"
        released = await self._eval(RELEASE, claim.job, claim.token, pause_ms, refund)
        self._held.discard(claim.token)
        return bool(released)

    async def renew(self, redis: Redis, claims: Iterable[Claim]) -> set[str]:
        """Extend the leases from now through another client; the ids of those that are lost.

        It is the worker's sign of life too, with or without claims.
        """
        jobs = [part for claim in claims for part in (claim.job, claim.token)]
        terms = (str(_PRESENCE_LEASES * self._lease_ms), str(self._lease_ms))
        arguments: tuple[Any, ...] = (self._keys.root, self._worker, *terms, self._describe(), *jobs)
        lost = await redis.execute_command("EVAL", RENEW, 1, *arguments)
        return {job.decode() for job in lost}

    async def leave(self, redis: Redis) -> None:
        """Take back the sign of life and the record."""
        await redis.zrem(self._keys.workers, self._worker)
        await redis.unlink(self._keys.worker(self._worker))

    async def _eval(self, script: str, *arguments: str) -> Any:
        [answer] = await self._outbox.send(("EVAL", script, "1", self._keys.root, *arguments))
        return answer


def _read_claim(row: Sequence[Any]) -> Claim:
    job, token, tries, num_bytes, num_texts, waited_ms, _, *trial = row
    return Claim(
        job=job.decode(),
        token=token.decode(),
        tries=int(tries),
        num_bytes=int(num_bytes),
        num_texts=int(num_texts),
        waited_s=waited_ms / 1000,
        trial=_read_trial(*trial),
    )


def _read_trial(line: bytes | None = None) -> Bisection | None:
    """A line that no worker of this version wrote is as if nothing was known of the suspect."""
    try:
        return None if line is None else Bisection.decode(line.decode())
    except ValueError:
        return Bisection()


def _terms(failure: Failure, tries: int) -> tuple[str, ...]:
    """What the scripts that keep a dead letter ask for: why, and the bounds on all letters."""
    why = (failure.code, failure.message[:MAX_REASON_CHARS], str(tries))
    return (*why, str(int(DEAD_KEPT_S * 1000)), str(MAX_DEAD), str(MAX_DEAD_BYTES))
