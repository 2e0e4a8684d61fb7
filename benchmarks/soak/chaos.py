"""Chaos test: with faults injected into a deep queue, every job gets exactly one result, the correct one.

    python -m benchmarks.soak.chaos [--jobs 100000] [--json FILE]

`tests/system/test_chaos.py` runs the same with fewer jobs. The queue is kept full. Jobs have high, normal and
low priority; some texts and some whole jobs fail; some jobs are cancelled; half of the results are consumed;
and a few jobs contain a poison text, which kills every worker that embeds it: exactly these texts must be
found.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.soak.chaos_jobs import Expected, Job
from benchmarks.soak.faults import FaultInjector, Server, host
from benchmarks.soak.mortal_worker import COMMAND
from producer import Client, QueueLimits
from producer.contract import Keys, queue_name
from producer.errors import JobFailed, QueueUnavailable
from producer.transport.connect import connect, end_tasks
from worker.settings import Settings
from worker.startup.boot import boot

MODEL = "fake/echo"
KEYS = Keys(queue_name(MODEL))
NUM_HOSTS = 3
LEASE_S = 1.0
DEPTH = 2_000  # maximum number of pending jobs
NUM_PRODUCERS = 32
NUM_READERS = 200
KEEP_RESULT_S = 600.0
RESULT_TIMEOUT_S = 240.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Entry:
    """An enqueued job."""

    job: Job
    enqueued_s: float


@dataclass(slots=True)
class Observed:
    """What the clients observed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    waited_s: dict[str, list[float]] = field(default_factory=lambda: {"high": [], "normal": [], "low": []})
    depths: list[int] = field(default_factory=list)
    all_enqueued: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcomes of the jobs, and the injected faults."""

    num_jobs: int
    seconds: float
    outcomes: dict[str, int]
    poison_texts_found: int
    lost_leases: int
    median_depth: int
    median_wait_s: dict[str, float]
    faults: dict[str, int]


async def chaos(num_jobs: int, directory: Path) -> Report:
    """Run the jobs through three hosts while faults are injected; AssertionError if a guarantee is broken."""
    server, observed = Server(directory), Observed()
    async with AsyncExitStack() as on_exit:
        server.start()
        on_exit.callback(server.kill)
        hosts = []
        settings = {"REDIS_URL": server.url, "MODEL": MODEL, "LEASE_S": str(LEASE_S)}
        for n in range(NUM_HOSTS):
            hosts.append(on_exit.enter_context(host(COMMAND, directory / f"host{n}", settings)))
        limits = QueueLimits(max_jobs=DEPTH)
        client = Client(server.url, model=MODEL, limits=limits, keep_result_s=KEEP_RESULT_S)
        client = await on_exit.enter_async_context(client)
        with closing((booted := boot(Settings(model=MODEL))).backend):
            expected = Expected(booted)
        redis = await on_exit.enter_async_context(connect(server.url))
        faults = FaultInjector(
            server, hosts, keys=KEYS, lease_s=LEASE_S, progress=lambda: observed.outcomes.total() / num_jobs
        )
        started_s = time.monotonic()
        async with _running(faults.inject()), _running(_watch_depth(redis, observed)):
            try:
                await _all_jobs(client, num_jobs, observed, expected)
            finally:
                faults.resume_workers()
        seconds = time.monotonic() - started_s
        poison_texts_found = await _check_dead_letters(client, num_jobs)
        totals = await _check(redis, observed, num_jobs)
    return Report(
        num_jobs=num_jobs,
        seconds=seconds,
        outcomes=dict(observed.outcomes),
        poison_texts_found=poison_texts_found,
        lost_leases=totals["lost_leases"],
        median_depth=int(np.median(observed.depths)),
        median_wait_s={name: float(np.median(waits)) for name, waits in observed.waited_s.items() if waits},
        faults=dict(faults.counts),
    )


@asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncIterator[None]:
    """Run `work` concurrently with the block; an error in either ends both."""
    task = asyncio.ensure_future(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        await end_tasks(task)


async def _watch_depth(redis: Redis, observed: Observed) -> None:
    while not observed.all_enqueued:
        await asyncio.sleep(0.25)
        try:
            observed.depths.append(int(await redis.zcard(KEYS.pending)))
        except (RedisError, OSError):
            continue


async def _all_jobs(client: Client, num_jobs: int, observed: Observed, expected: Expected) -> None:
    """Producers keep the queue full; readers fetch the results in the order of the jobs."""
    numbers = iter(range(num_jobs))
    enqueued: asyncio.Queue[Entry] = asyncio.Queue()
    low_priority: list[Entry] = []  # read last, as they would block the readers

    async def produce() -> None:
        for n in numbers:
            job = Job(n)
            await _retry(partial(_submit, client, job))
            entry = Entry(job, time.monotonic())
            if job.cancelled or job.priority == "high":  # their results arrive before those of older jobs
                await _read(client, entry, observed, expected)
            elif job.priority == "low":
                low_priority.append(entry)
            else:
                enqueued.put_nowait(entry)

    async def read() -> None:
        while True:
            entry = await enqueued.get()
            await _read(client, entry, observed, expected)
            enqueued.task_done()

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(NUM_READERS)]
        await asyncio.gather(*(produce() for _ in range(NUM_PRODUCERS)))
        observed.all_enqueued = True
        for entry in low_priority:
            enqueued.put_nowait(entry)
        await enqueued.join()
        for reader in readers:
            reader.cancel()


async def _submit(client: Client, job: Job) -> None:
    await client.submit(job.texts, job.options, job=job.name, priority=job.priority, wait_if_full=True)
    if job.cancelled:
        await client.cancel(job.name)


async def _retry(step: Callable[[], Awaitable[_T]]) -> _T:
    """Retry the step for as long as Redis is unavailable."""
    while True:
        try:
            return await step()
        except QueueUnavailable:
            await asyncio.sleep(0.1)


async def _read(client: Client, entry: Entry, observed: Observed, expected: Expected) -> None:
    """Fetch the job's result and check it."""
    job = entry.job
    try:
        reply = await _retry(
            lambda: client.result(job.name, timeout_s=RESULT_TIMEOUT_S, consume=job.consumed)
        )
        expected.check(job, reply)
        outcome = "embedded"
    except JobFailed as failed:
        outcome = failed.worker_code
    assert outcome in job.outcomes, (job, outcome)
    observed.outcomes[outcome] += 1
    observed.waited_s[job.priority].append(time.monotonic() - entry.enqueued_s)


async def _check_dead_letters(client: Client, num_jobs: int) -> int:
    """Check that exactly the poison texts are dead letters, and drop them; the number of dead letters."""
    expected = {job.dead_letter: job for job in map(Job, range(num_jobs)) if job.poison_texts}
    assert {letter.job for letter in await client.dead_letters()} == expected.keys()
    for name, job in expected.items():
        _, request = await client.dead_letter(name)
        assert request is not None
        assert list(request.texts) == job.poison_texts
        assert await client.drop(name)
    return len(expected)


async def _check(redis: Redis, observed: Observed, num_jobs: int) -> dict[str, int]:
    """Check that the server's counters match what clients observed, and that all other keys expire."""
    reply: Any = redis.hgetall(KEYS.totals)
    totals = {name.decode(): int(count) for name, count in (await reply).items()}
    done = observed.outcomes["embedded"] + observed.outcomes["invalid_option"]
    assert observed.outcomes.total() == num_jobs, observed.outcomes
    kept = sum(int(answer.split()[0]) for answer in await redis.zrange(KEYS.answers, 0, -1))
    assert totals["bytes"] == kept, totals
    assert totals["done"] == done, (totals, observed.outcomes)
    assert totals.get("cancelled", 0) == observed.outcomes["cancelled"], (totals, observed.outcomes)
    assert totals.get("failed", 0) == 0, totals
    assert totals["lost_leases"] > 0, "no lease was lost: no fault had an effect"
    own = {KEYS.totals, KEYS.workers, KEYS.answers, KEYS.askers, KEYS.digests}
    for key in await redis.keys():
        ttl_s = await redis.ttl(key)  # -2: it expired in between
        assert key.decode() in own or ttl_s == -2 or 0 <= ttl_s <= KEEP_RESULT_S, (key, ttl_s)
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        report = asdict(asyncio.run(chaos(arguments.jobs, Path(directory))))
    report["cores"] = len(os.sched_getaffinity(0))
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
