"""The load of the chaos test: producers keep the queue full, readers check every result."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from benchmarks.soak.chaos_jobs import Expected, Job
from producer import Client
from producer.errors import JobFailed, QueueUnavailable

NUM_PRODUCERS = 32
NUM_READERS = 200
RESULT_TIMEOUT_S = 1_200.0  # a machine without time to spare boots for long after each death

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Entry:
    """An enqueued job."""

    job: Job
    enqueued_s: float


@dataclass(slots=True)
class Observed:
    """What the clients observed."""

    num_jobs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    waited_s: dict[str, list[float]] = field(default_factory=lambda: {"high": [], "normal": [], "low": []})
    all_enqueued: bool = False


class Load:
    """Jobs enqueued and read by a client; `other` enqueues and reads those that are joined, too."""

    def __init__(self, client: Client, other: Client, expected: Expected) -> None:
        self._client = client
        self._other = other
        self._expected = expected
        self.observed = Observed()

    async def run(self, is_enough: Callable[[int], bool]) -> None:
        """Enqueue jobs until they are enough; results are read in the order of the jobs."""
        numbers = itertools.count()
        enqueued: asyncio.Queue[Entry] = asyncio.Queue()
        low_priority: list[Entry] = []  # read last, as they would block the readers

        async def produce() -> None:
            while not is_enough(self.observed.num_jobs):
                self.observed.num_jobs += 1
                entry = await self._enqueue(Job(next(numbers)))
                if entry.job.cancelled or entry.job.priority == "high":  # they overtake older jobs
                    await self._read(entry)
                elif entry.job.priority == "low":
                    low_priority.append(entry)
                else:
                    enqueued.put_nowait(entry)

        async def read() -> None:
            while True:
                await self._read(await enqueued.get())
                enqueued.task_done()

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read()) for _ in range(NUM_READERS)]
            await asyncio.gather(*(produce() for _ in range(NUM_PRODUCERS)))
            self.observed.all_enqueued = True
            for entry in low_priority:
                enqueued.put_nowait(entry)
            await enqueued.join()
            for reader in readers:
                reader.cancel()

    def _clients(self, job: Job) -> list[Client]:
        return [self._client, self._other] if job.joined else [self._client]

    async def _enqueue(self, job: Job) -> Entry:
        enqueue = partial(job_enqueued, job)
        await asyncio.gather(*(_retry(partial(enqueue, client)) for client in self._clients(job)))
        entry = Entry(job, time.monotonic())
        if job.cancelled:
            await _retry(partial(self._client.cancel, job.name))
        return entry

    async def _read(self, entry: Entry) -> None:
        """Fetch the job's result, once by each client that enqueued it, and check it."""
        job = entry.job
        outcomes = {await self._outcome(client, job) for client in self._clients(job)}
        assert len(outcomes) == 1, (job, outcomes)
        assert outcomes <= job.outcomes, (job, outcomes)
        self.observed.outcomes.update(outcomes)
        self.observed.waited_s[job.priority].append(time.monotonic() - entry.enqueued_s)

    async def _outcome(self, client: Client, job: Job) -> str:
        try:
            reply = await _retry(
                partial(client.result, job.name, timeout_s=RESULT_TIMEOUT_S, consume=job.consumed)
            )
        except JobFailed as failed:
            return failed.worker_code
        self._expected.check(job, reply)
        return "embedded"


async def job_enqueued(job: Job, client: Client) -> None:
    """Enqueue the job, waiting while the queue is full."""
    await client.submit(job.texts, job.options, job=job.name, priority=job.priority, wait_if_full=True)


async def _retry(step: Callable[[], Awaitable[_T]]) -> _T:
    """Retry the step for as long as Redis is unavailable."""
    while True:
        try:
            return await step()
        except QueueUnavailable:
            await asyncio.sleep(0.1)
