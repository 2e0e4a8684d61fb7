"""Chaos test: with faults injected into a deep queue, every job gets exactly one result, the correct one.

    python -m benchmarks.soak.chaos [--jobs 100000] [--server PROGRAM] [--seed NUMBER] [--json FILE]

`tests/system/test_chaos.py` runs the same with fewer jobs. The queue is kept full. Jobs have high, normal and
low priority; some texts and some whole jobs fail; some jobs are cancelled; some are enqueued by two clients
at once; half of the results are consumed; and a few jobs contain a poison text, which kills every worker that
embeds it: exactly these texts must be found. `benchmarks/soak/faults.py` has the faults. The run is over when
there were enough jobs and every kind of fault has happened ROUNDS times.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.soak.chaos_jobs import Expected, Job
from benchmarks.soak.chaos_load import Load, Observed
from benchmarks.soak.faults import FaultInjector
from benchmarks.soak.hosts import Host, Relay, Server
from benchmarks.soak.mortal_worker import COMMAND
from producer import Client, QueueLimits
from producer.contract import Keys, queue_name
from producer.embedded.services import find_server
from producer.transport.connect import connect, end_tasks
from worker.settings import Settings
from worker.startup.boot import boot

MODEL = "fake/echo"
KEYS = Keys(queue_name(MODEL))
NUM_HOSTS = 3  # the first reaches the server directly, the others through a relay
LEASE_S = 1.0
DEPTH = 2_000  # maximum number of pending jobs
KEEP_RESULT_S = 600.0
ROUNDS = 2
IMPATIENT = "?socket_timeout=2"  # how long whoever is behind a relay waits for a reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcomes of the jobs, and the injected faults."""

    seed: int
    num_jobs: int
    seconds: float
    outcomes: dict[str, int]
    poison_texts_found: int
    lost_leases: int
    median_depth: int
    median_wait_s: dict[str, float]
    faults: dict[str, int]


async def chaos(num_jobs: int, directory: Path, *, program: str, seed: int) -> Report:
    """Run at least so many jobs while faults are injected; AssertionError if a guarantee is broken."""
    print(f"chaos: seed {seed} on {program}", flush=True)
    server, depths = Server(program, directory), list[int]()
    async with AsyncExitStack() as on_exit:
        server.start()
        on_exit.callback(server.kill)
        redis = await on_exit.enter_async_context(connect(server.url))
        ours, theirs = [await on_exit.enter_async_context(Relay(server.socket)) for _ in range(2)]
        hosts = [_host(n, directory, server, theirs) for n in range(NUM_HOSTS)]
        for host in hosts:
            await on_exit.enter_async_context(host)
        client, other = [
            await on_exit.enter_async_context(_client(url)) for url in (ours.url + IMPATIENT, server.url)
        ]
        with closing((booted := boot(Settings(model=MODEL))).backend):
            load = Load(client, other, Expected(booted))
        faults = FaultInjector(server, hosts, [ours, theirs], keys=KEYS, lease_s=LEASE_S, seed=seed)
        on_exit.callback(faults.resume_workers)
        started_s = time.monotonic()
        async with _running(faults.inject()), _running(_watch_depth(redis, load.observed, depths)):
            await load.run(lambda enqueued: enqueued >= num_jobs and faults.num_rounds >= ROUNDS)
        seconds, observed = time.monotonic() - started_s, load.observed
        poison_texts_found = await _check_dead_letters(client, observed.num_jobs)
        totals = await _check(redis, observed)
    return Report(
        seed=seed,
        num_jobs=observed.num_jobs,
        seconds=seconds,
        outcomes=dict(observed.outcomes),
        poison_texts_found=poison_texts_found,
        lost_leases=totals["lost_leases"],
        median_depth=int(np.median(depths)),
        median_wait_s={name: float(np.median(waits)) for name, waits in observed.waited_s.items() if waits},
        faults=dict(faults.counts),
    )


def _host(n: int, directory: Path, server: Server, relay: Relay) -> Host:
    url = relay.url + IMPATIENT if n else server.url
    settings = {"REDIS_URL": url, "MODEL": MODEL, "LEASE_S": str(LEASE_S)}
    return Host(COMMAND, directory / f"host{n}", settings)


def _client(url: str) -> Client:
    return Client(url, model=MODEL, limits=QueueLimits(max_jobs=DEPTH), keep_result_s=KEEP_RESULT_S)


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


async def _watch_depth(redis: Redis, observed: Observed, depths: list[int]) -> None:
    while not observed.all_enqueued:
        await asyncio.sleep(0.25)
        try:
            depths.append(int(await redis.zcard(KEYS.pending)))
        except (RedisError, OSError):
            continue


async def _check_dead_letters(client: Client, num_jobs: int) -> int:
    """Check that exactly the poison texts are dead letters, and drop them; the number of dead letters."""
    expected = {job.dead_letter: job for job in map(Job, range(num_jobs)) if job.poison_texts}
    assert {letter.job for letter in await client.dead_letters(max_dead_letters=1000)} == expected.keys()
    for name, job in expected.items():
        _, request = await client.dead_letter(name)
        assert request is not None
        assert list(request.texts) == job.poison_texts
        assert await client.drop(name)
    return len(expected)


async def _check(redis: Redis, observed: Observed) -> dict[str, int]:
    """Check that the server's counters match what clients observed, and that all other keys expire."""
    reply: Any = redis.hgetall(KEYS.totals)
    totals = {name.decode(): int(count) for name, count in (await reply).items()}
    done = observed.outcomes["embedded"] + observed.outcomes["invalid_option"]
    assert observed.outcomes.total() == observed.num_jobs, observed.outcomes
    kept = sum(int(answer.split()[0]) for answer in await redis.zrange(KEYS.answers, 0, -1))
    assert totals["bytes"] == kept, totals
    assert totals["done"] == done, (totals, observed.outcomes)
    assert totals.get("cancelled", 0) == observed.outcomes["cancelled"], (totals, observed.outcomes)
    assert totals.get("failed", 0) == 0, totals
    assert totals["lost_leases"] > 0, "no lease was lost: no fault had an effect"
    own = {KEYS.totals, KEYS.workers, KEYS.idle, KEYS.answers, KEYS.askers, KEYS.digests}
    for key in await redis.keys():
        ttl_s = await redis.ttl(key)  # -2: it expired in between
        assert key.decode() in own or ttl_s == -2 or 0 <= ttl_s <= KEEP_RESULT_S, (key, ttl_s)
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--server", help="the program of the server; by default the one that is found")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    program = arguments.server or find_server()
    with tempfile.TemporaryDirectory() as directory:
        run = chaos(arguments.jobs, Path(directory), program=program, seed=arguments.seed)
        report = asdict(asyncio.run(run))
    report["cores"] = len(os.sched_getaffinity(0))
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
