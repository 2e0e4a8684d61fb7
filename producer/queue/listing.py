"""Lists jobs as they stand on a queue, and awaits the end of a run.

Each read holds the server up for a millisecond at most, however long the queue is. What comes of many is a
moving picture: a job that changes its state meanwhile may be missing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis

from producer.contract import Keys
from producer.errors import InvalidOption, ResultTimeout
from producer.queue.dead_letters import number
from producer.queue.enqueue import HEAD_START_MS, Priority
from producer.queue.paging import pages

_POLLED = 32  # jobs of a run that are looked for at a time, to see whether they have ended
_POLL_S = 0.5
_CLEAN_ROUNDS = 2  # a job that moves between pending and leased may be missed in one


class JobState(StrEnum):
    """Where a job stands."""

    PENDING = "pending"  #: no worker has claimed it
    RUNNING = "running"  #: a worker holds it
    RETRYING = "retrying"  #: it pauses before its next try
    DEAD = "dead"  #: it was given up, and is a dead letter


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job on the queue, or a dead letter.

    `runs` are the runs that want it; callers without a run are not among them. `tries` counts those that have
    begun. `age_s` is the time since it was enqueued, and `worker` the name of the one that runs it.
    """

    job: str
    state: JobState
    priority: Priority
    runs: tuple[str, ...]
    tries: int
    num_texts: int
    num_bytes: int
    age_s: float
    worker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to list; without `state` those on the queue, not the dead letters. Raises InvalidOption."""

    state: JobState | str | None = None
    run: str | None = None
    priority: Priority | str | None = None
    min_age_s: float = 0.0

    def __post_init__(self) -> None:
        for kind, name in ((JobState, "state"), (Priority, "priority")):
            given = getattr(self, name)
            if given is not None and given not in list(kind):
                raise InvalidOption(f"{name} must be one of {', '.join(kind)}, not {given!r:.60}")

    def admits(self, job: QueuedJob) -> bool:
        """Whether the job is one of these."""
        return (
            self.state in (None, job.state)
            and (self.run is None or self.run in job.runs)
            and self.priority in (None, job.priority)
            and job.age_s >= self.min_age_s
        )


class QueuedJobs:
    """The jobs of one queue. redis-py's errors pass through."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def matching(self, wanted: JobFilter, *, max_jobs: int) -> list[QueuedJob]:
        """The jobs that the filter admits: first those that run, then the pending ones in order of claims.

        Dead letters are listed oldest first.
        """
        found: list[QueuedJob] = []
        for zset, name in self._zsets(wanted.state):
            async for ids in pages(self._redis, zset):
                jobs = await self._read(ids, name(""), of=zset)
                found += [job for job in jobs if wanted.admits(job)]
                if len(found) >= max_jobs:
                    return found[:max_jobs]
        return found

    async def pending(self) -> list[str]:
        """The ids of all pending jobs."""
        return [_text(job) async for ids in pages(self._redis, self._keys.pending) for job in ids]

    async def until_run_ends(self, run: str, *, timeout_s: float | None) -> int:
        """Wait until no job of the run is on the queue; returns how many of its jobs are dead letters.

        Raises ResultTimeout.
        """
        try:
            async with asyncio.timeout(timeout_s) as limit:
                await self._until_run_ends(run)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ResultTimeout(
                f"run {run} still has jobs on the queue after {timeout_s} s; wait for longer, or look at "
                "them with `producer jobs`"
            ) from None
        num_dead = 0
        async for ids in pages(self._redis, self._keys.dead_letters):
            num_dead += len(await self._of_run(run, ids, self._keys.dead_letter("")))
        return num_dead

    async def _until_run_ends(self, run: str) -> None:
        left: list[bytes] = []
        num_clean = 0
        while num_clean < _CLEAN_ROUNDS:
            first, others = left[:_POLLED], left[_POLLED:]
            if still := await self._of_run(run, first, self._keys.job("")):
                await asyncio.sleep(_POLL_S)
            left = still + others
            if not left:
                for zset in (self._keys.pending, self._keys.leases):
                    async for ids in pages(self._redis, zset):
                        left += await self._of_run(run, ids, self._keys.job(""))
                num_clean = 0 if left else num_clean + 1

    def _zsets(self, state: JobState | str | None) -> Sequence[tuple[str, Any]]:
        """Where jobs of the state are, each with the function that names a job's hash."""
        keys = self._keys
        on_queue = [(keys.leases, keys.job), (keys.pending, keys.job)]
        match state:
            case JobState.PENDING:
                return on_queue[1:]
            case JobState.RUNNING | JobState.RETRYING:
                return on_queue[:1]
            case JobState.DEAD:
                return [(keys.dead_letters, keys.dead_letter)]
        return on_queue

    async def _read(self, ids: Sequence[bytes], prefix: str, *, of: str) -> list[QueuedJob]:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for job in ids:
                pipe.execute_command("HGETALL", prefix.encode() + job)
            (seconds, micros), *hashes = await pipe.execute(raise_on_error=False)
        now_ms = seconds * 1000 + micros // 1000
        states = {self._keys.pending: JobState.PENDING, self._keys.dead_letters: JobState.DEAD}
        # An empty one has just ended; one of another type is no job.
        return [
            _job(_text(job), facts, states.get(of), now_ms=now_ms)
            for job, facts in zip(ids, hashes, strict=True)
            if facts and isinstance(facts, dict)
        ]

    async def _of_run(self, run: str, ids: Sequence[bytes], prefix: str) -> list[bytes]:
        """Those of the jobs that the run wants."""
        if not ids:
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            for job in ids:
                pipe.execute_command("HEXISTS", prefix.encode() + job, f"run:{run}")
            wanted = await pipe.execute(raise_on_error=False)
        return [job for job, is_wanted in zip(ids, wanted, strict=True) if is_wanted in (True, 1)]


def _job(job: str, facts: Mapping[bytes, bytes], state: JobState | None, *, now_ms: int) -> QueuedJob:
    """The job of this hash; without a state it is leased."""
    token = _text(facts.get(b"token", b""))
    enqueued_ms = number(facts.get(b"enqueued"))
    if enqueued_ms is None:
        enqueued_ms = now_ms
    head_start_ms = enqueued_ms - (number(facts.get(b"score")) or enqueued_ms)
    runs = (_text(field[4:]) for field in facts if field.startswith(b"run:"))
    return QueuedJob(
        job=job,
        state=state or (JobState.RUNNING if token else JobState.RETRYING),
        # Deaths defer a job by seconds, priorities by an hour.
        priority=min(Priority, key=lambda one: abs(HEAD_START_MS[one] - head_start_ms)),
        runs=tuple(sorted(run for run in runs if run and not run.startswith("~"))),
        tries=number(facts.get(b"tries")) or 0,
        num_texts=number(facts.get(b"texts")) or 0,
        num_bytes=number(facts.get(b"bytes")) or 0,
        age_s=max(0, now_ms - enqueued_ms) / 1000,
        worker=token.rsplit(":", 2)[0] if state is None and token else None,
    )


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
