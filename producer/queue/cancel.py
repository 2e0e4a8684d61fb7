"""Cancels jobs: one by its id, or those of a run that nobody else asks for; takes back single asks."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from producer.contract import FAILURE_KEPT_S, Failure, Keys, encode_failure
from producer.queue.scripts import CANCEL, WITHDRAW
from producer.transport.autopipeline import AutoPipeline, Command

CANCELLED = encode_failure(Failure(code="cancelled", message="the job was cancelled"))
_KEPT_MS = str(int(FAILURE_KEPT_S * 1000))
_JOBS_PER_STEP = 64  # a millisecond of the server's time
_IDS_PER_READ = 1000


@dataclass(frozen=True, slots=True)
class Ask:
    """One call that awaits a job, by a name of its own."""

    job: str
    asker: str


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """How many of a run's jobs on the queue were ended, and how many were left to others who want them."""

    num_ended: int
    num_left: int


class Cancellation:
    """Ends jobs of one queue with the failure `cancelled`. redis-py's errors pass through.

    A worker that runs such a job is notified to stop. It can no longer write anything for the job: its token
    was in the job's hash, which is gone.
    """

    def __init__(self, redis: Redis, keys: Keys, pipeline: AutoPipeline | None = None) -> None:
        self._redis = redis
        self._pipeline = pipeline or AutoPipeline(redis)
        self._keys = keys

    async def cancel(self, job: str) -> bool:
        """End a pending or running job, even if others want it; False if it is not on the queue."""
        return (await self._step("", [job])).num_ended == 1

    async def cancel_run(self, run: str) -> RunCancelled:
        """End those of the run's jobs on the queue that nobody else asks for, a few dozen per atomic step."""
        seen: set[bytes] = set()
        num_ended, num_left = 0, 0
        # Running jobs first and last: one that is claimed meanwhile is found at last, one that goes
        # back has been ended at first.
        for jobs in (self._keys.leases, self._keys.pending, self._keys.leases):
            cursor: int | None = None
            while cursor != 0:
                cursor, rows = await self._redis.zscan(jobs, cursor or 0, count=_IDS_PER_READ)
                fresh = [job for job, _ in rows if job not in seen]
                seen.update(fresh)
                step = await self.cancel_listed(run, fresh)
                num_ended, num_left = num_ended + step.num_ended, num_left + step.num_left
        return RunCancelled(num_ended, num_left)

    async def cancel_listed(self, run: str, jobs: Sequence[str | bytes]) -> RunCancelled:
        """As `cancel_run`, for those of `jobs` that belong to the run."""
        num_ended, num_left = 0, 0
        for first in range(0, len(jobs), _JOBS_PER_STEP):
            step = await self._step(run, jobs[first : first + _JOBS_PER_STEP])
            num_ended, num_left = num_ended + step.num_ended, num_left + step.num_left
        return RunCancelled(num_ended, num_left)

    async def withdraw(self, asks: Sequence[Ask]) -> int:
        """Take these asks back; returns how many jobs ended because nobody else asks for them."""
        num_ended = 0
        for first in range(0, len(asks), _JOBS_PER_STEP):
            [ended] = await self._pipeline.send(self._withdrawal(asks[first : first + _JOBS_PER_STEP]))
            num_ended += ended
        return num_ended

    def post_withdrawal(self, ask: Ask) -> None:
        """As `withdraw`, without waiting; errors are ignored."""
        self._pipeline.post(self._withdrawal([ask]))

    async def _step(self, run: str, jobs: Sequence[str | bytes]) -> RunCancelled:
        command = CANCEL.command(self._keys.root, CANCELLED, _KEPT_MS, run, *jobs)
        [counts] = await self._pipeline.send(command)
        return RunCancelled(*counts)

    def _withdrawal(self, asks: Sequence[Ask]) -> Command:
        names = [name for ask in asks for name in (ask.job, ask.asker)]
        return WITHDRAW.command(self._keys.root, CANCELLED, _KEPT_MS, *names)
