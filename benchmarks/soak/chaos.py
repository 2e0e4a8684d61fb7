"""A deep queue while everything that can be killed is killed: every job is answered, once, and rightly.

    python -m benchmarks.soak.chaos [--jobs 100000] [--json FILE]

`tests/chaos/` runs the same with fewer jobs. The queue is kept full; some jobs are urgent and some can wait,
some texts and some whole jobs fail, some jobs are cancelled, half the answers are consumed, and a few jobs
have a text that kills every worker that embeds it: it must be found, and no other may be taken for it.
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
from benchmarks.soak.havoc import Havoc, Server, host
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
DEPTH = 2_000  # jobs that may wait
NUM_PRODUCERS = 32
NUM_READERS = 200
KEEP_RESULT_S = 600.0
ANSWER_S = 240.0  # within which a job must be answered

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A job that is on the queue."""

    job: Job
    enqueued_s: float


@dataclass(slots=True)
class Told:
    """What clients heard."""

    answers: Counter[str] = field(default_factory=Counter)
    waited_s: dict[str, list[float]] = field(default_factory=lambda: {"high": [], "normal": [], "low": []})
    depths: list[int] = field(default_factory=list)
    all_enqueued: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What happened to the jobs, and around them."""

    num_jobs: int
    seconds: float
    answers: dict[str, int]
    killers_found: int
    lost_leases: int
    median_depth: int
    median_wait_s: dict[str, float]
    havoc: dict[str, int]


async def chaos(num_jobs: int, directory: Path) -> Report:
    """So many jobs through three hosts under havoc; AssertionError if one promise is broken."""
    server, told = Server(directory), Told()
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
        havoc = Havoc(server, hosts, keys=KEYS, lease_s=LEASE_S, done=lambda: told.answers.total() / num_jobs)
        started_s = time.monotonic()
        async with _running(havoc.wreak()), _running(_watch_depth(redis, told)):
            try:
                await _all_jobs(client, num_jobs, told, expected)
            finally:
                havoc.thaw()
        seconds = time.monotonic() - started_s
        killers_found = await _check_letters(client, num_jobs)
        totals = await _check(redis, told, num_jobs)
    return Report(
        num_jobs=num_jobs,
        seconds=seconds,
        answers=dict(told.answers),
        killers_found=killers_found,
        lost_leases=totals["lost_leases"],
        median_depth=int(np.median(told.depths)),
        median_wait_s={name: float(np.median(waits)) for name, waits in told.waited_s.items() if waits},
        havoc=dict(havoc.counts),
    )


@asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncIterator[None]:
    """Beside the block; an error of either ends both."""
    task = asyncio.ensure_future(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        await end_tasks(task)


async def _watch_depth(redis: Redis, told: Told) -> None:
    while not told.all_enqueued:
        await asyncio.sleep(0.25)
        try:
            told.depths.append(int(await redis.zcard(KEYS.pending)))
        except (RedisError, OSError):
            continue


async def _all_jobs(client: Client, num_jobs: int, told: Told, expected: Expected) -> None:
    """Producers fill the queue as far as it goes; readers take the answers in the order of the jobs."""
    numbers = iter(range(num_jobs))
    enqueued: asyncio.Queue[Entry] = asyncio.Queue()
    lazy: list[Entry] = []  # answered last: they must not hold the readers

    async def produce() -> None:
        for n in numbers:
            job = Job(n)
            await _insist(partial(_submit, client, job))
            entry = Entry(job, time.monotonic())
            if job.cancelled or job.priority == "high":  # their answers are there before those of older jobs
                await _read(client, entry, told, expected)
            elif job.priority == "low":
                lazy.append(entry)
            else:
                enqueued.put_nowait(entry)

    async def read() -> None:
        while True:
            entry = await enqueued.get()
            await _read(client, entry, told, expected)
            enqueued.task_done()

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(NUM_READERS)]
        await asyncio.gather(*(produce() for _ in range(NUM_PRODUCERS)))
        told.all_enqueued = True
        for entry in lazy:
            enqueued.put_nowait(entry)
        await enqueued.join()
        for reader in readers:
            reader.cancel()


async def _submit(client: Client, job: Job) -> None:
    await client.submit(job.texts, job.options, job=job.name, priority=job.priority, wait_if_full=True)
    if job.cancelled:
        await client.cancel(job.name)


async def _insist(step: Callable[[], Awaitable[_T]]) -> _T:
    """However long Redis is away."""
    while True:
        try:
            return await step()
        except QueueUnavailable:
            await asyncio.sleep(0.1)


async def _read(client: Client, entry: Entry, told: Told, expected: Expected) -> None:
    """The job's answer is the right one."""
    job = entry.job
    try:
        reply = await _insist(lambda: client.result(job.name, timeout_s=ANSWER_S, consume=job.consumed))
        expected.check(job, reply)
        outcome = "embedded"
    except JobFailed as failed:
        outcome = failed.worker_code
    assert outcome in job.outcomes, (job, outcome)
    told.answers[outcome] += 1
    told.waited_s[job.priority].append(time.monotonic() - entry.enqueued_s)


async def _check_letters(client: Client, num_jobs: int) -> int:
    """The texts that kill, and no others, are kept as dead letters; how many there were before they went."""
    expected = {job.letter: job for job in map(Job, range(num_jobs)) if job.killers}
    assert {letter.job for letter in await client.dead_letters()} == expected.keys()
    for name, job in expected.items():
        _, request = await client.dead_letter(name)
        assert request is not None
        assert list(request.texts) == job.killers
        assert await client.drop(name)
    return len(expected)


async def _check(redis: Redis, told: Told, num_jobs: int) -> dict[str, int]:
    """What the server counted is what clients heard, and what is left goes by itself."""
    reply: Any = redis.hgetall(KEYS.totals)
    totals = {name.decode(): int(count) for name, count in (await reply).items()}
    done = told.answers["embedded"] + told.answers["invalid_option"]
    assert told.answers.total() == num_jobs, told.answers
    assert totals["bytes"] == 0, totals
    assert totals["done"] == done, (totals, told.answers)
    assert totals.get("cancelled", 0) == told.answers["cancelled"], (totals, told.answers)
    assert totals.get("failed", 0) == 0, totals
    assert totals["lost_leases"] > 0, "nothing was hit: this was no chaos"
    lasting = {KEYS.totals, KEYS.workers}
    for key in await redis.keys():
        ttl_s = await redis.ttl(key)  # -2: it went in between
        assert key.decode() in lasting or ttl_s == -2 or 0 <= ttl_s <= KEEP_RESULT_S, (key, ttl_s)
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
