"""What the queue costs the server: commands per job, while idle, and within one script, as ceilings.

Commands inside scripts count, as the server counts them.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis
from support.serving import MODEL, worker

from producer import Client
from producer.contract import EmbedOptions, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.queue.cancel import Cancellation
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from producer.transport.autopipeline import AutoPipeline
from worker.consumer.handback import hand_back
from worker.consumer.leases import Leases
from worker.consumer.reconcile import MAX_JOBS, Reconciler

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
MAX_COMMANDS_PER_JOB = 18
MAX_IDLE_COMMANDS_A_SECOND = 8
# About 2 ms on a slow core; a command within a script takes 1 to 2 µs.
MAX_COMMANDS_PER_SCRIPT = 1_500


async def num_commands(redis: Redis) -> int:
    """How many the server has run so far, without those that ask for it."""
    stats = await redis.info("commandstats")
    left_out = ("cmdstat_info", "cmdstat_client", "cmdstat_ping")
    return sum(row["calls"] for name, row in stats.items() if not name.startswith(left_out))


@pytest.mark.parametrize("num_texts", [1, 32])
async def test_a_job_costs_few_commands(server: EmbeddedServer, redis: Redis, num_texts: int) -> None:
    """Its client's and its worker's, from the request to the consumed result."""
    num_jobs = 200
    batches = [[f"{n} {place}" for place in range(num_texts)] for n in range(num_jobs)]
    async with worker(server.url, lease_s=60.0), Client(server.url, model=MODEL) as client:
        await client.embed(["the first"])
        before = await num_commands(redis)
        assert len([one async for one in client.embed_many(batches, max_in_flight=64)]) == num_jobs
        assert (await num_commands(redis) - before) / num_jobs <= MAX_COMMANDS_PER_JOB


async def test_idle_workers_cost_few_commands(server: EmbeddedServer, redis: Redis) -> None:
    """Each of them a heartbeat; the queue is not polled."""
    async with AsyncExitStack() as running:
        for _ in range(2):
            await running.enter_async_context(worker(server.url))
        await asyncio.sleep(0.5)
        before, evals = await num_commands(redis), await num_scripts(redis)
        await asyncio.sleep(2)
        assert await num_commands(redis) - before <= 2 * 2 * MAX_IDLE_COMMANDS_A_SECOND
        assert await num_scripts(redis) - evals <= 2 * 2


async def num_scripts(redis: Redis) -> int:
    return int((await redis.info("commandstats"))["cmdstat_eval"]["calls"])


async def test_a_job_wakes_one_idle_worker(server: EmbeddedServer, redis: Redis) -> None:
    """However many there are; and each worker takes its turn."""
    num_workers, num_jobs = 5, 20
    async with AsyncExitStack() as running:
        client = await running.enter_async_context(Client(server.url, model=MODEL))
        for _ in range(num_workers):
            await running.enter_async_context(worker(server.url, lease_s=60.0))
        await client.embed(["the first"])
        assert await redis.zcard(KEYS.idle) == num_workers
        before = await num_scripts(redis)
        for n in range(num_jobs):
            await client.embed([f"text {n}"])
        # Enqueued, claimed, ended, and soon after consumed.
        assert num_jobs * 3 <= await num_scripts(redis) - before <= num_jobs * 4


async def test_a_worker_that_went_away_is_not_waited_for(server: EmbeddedServer, redis: Redis) -> None:
    """The next idle one is woken in place of one that was killed and still counts as idle."""
    async with worker(server.url, lease_s=60.0), Client(server.url, model=MODEL) as client:
        await client.embed(["the first"])
        await redis.zadd(KEYS.idle, {"killed": -1})
        assert (await client.embed(["a text"], timeout_s=5)).ok
        assert await redis.zscore(KEYS.idle, "killed") is None


async def test_a_worker_that_leaves_jobs_wakes_another(redis: Redis) -> None:
    """Until every job has a worker, or every worker some."""
    async with redis.pubsub() as listening:
        for name in ("one", "two"):
            await Leases(redis, KEYS, worker=name, lease_s=30).claim(2, 1 << 30)
            await listening.subscribe(KEYS.wakeup(name))
        await enqueue_many(redis, 5)
        assert await woken(listening) == [KEYS.wakeup("one")]
        await Leases(redis, KEYS, worker="one", lease_s=30).claim(2, 1 << 30)
        assert await woken(listening) == [KEYS.wakeup("two")]


async def woken(listening: Any) -> list[str]:
    """The channels of the workers that were woken."""
    found = []
    while message := await listening.get_message(timeout=0.2):
        if message["type"] == "message":
            found.append(message["channel"].decode())
    return found


async def enqueue_many(redis: Redis, num_jobs: int, *, run: str | None = None) -> None:
    pipeline = AutoPipeline(redis)
    jobs = [prepare_job(build_request(MODEL, [f"text {n}"], EmbedOptions())) for n in range(num_jobs)]
    limits = QueueLimits()
    await asyncio.gather(
        *(submit(pipeline, KEYS, job, limits=limits, keep_result_s=60, run=run) for job in jobs)
    )


async def fill_with_leases(redis: Redis, num_workers: int, num_jobs: int) -> list[Leases]:
    """Workers that hold as many jobs each."""
    await enqueue_many(redis, num_workers * num_jobs)
    owners = [Leases(redis, KEYS, worker=f"w{n}", lease_s=600) for n in range(num_workers)]
    for owner in owners:
        assert len(await owner.claim(num_jobs, 1 << 30)) == num_jobs
    return owners


async def cut_claim(redis: Redis, owners: list[Leases]) -> None:
    owners[0]._claim_failed = True  # its reply was lost
    await owners[0].claim(1, 1)


async def expire_all(redis: Redis, owners: list[Leases]) -> None:
    now_ms = (await redis.time())[0] * 1000
    await redis.zadd(KEYS.leases, {job: now_ms - 1 for job in await redis.zrange(KEYS.leases, 0, -1)})
    await owners[0].renew(redis, [])  # no outage: a worker was heard from
    await owners[0].claim(1, 1)


async def reconcile(redis: Redis, owners: list[Leases]) -> None:
    await owners[0].renew(redis, [])
    await Reconciler(KEYS, "w0")(redis)


STEPS: dict[str, Callable[[Redis, list[Leases]], Any]] = {
    "a dead worker's jobs go back": lambda redis, _: hand_back(redis, KEYS, "w3"),
    "a claim whose reply was lost goes back": cut_claim,
    "leases expire": expire_all,
    "the byte counter is reconciled": reconcile,
    "a run is cancelled": lambda redis, _: Cancellation(redis, KEYS).cancel_run("nobody's"),
    "a large claim": lambda redis, owners: owners[0].claim(100_000, 1 << 30),
}


@pytest.mark.parametrize("step", STEPS)
async def test_no_script_is_long(redis: Redis, step: str) -> None:
    """Whatever the number of other workers and of jobs: it does a bounded part, or one worker's."""
    owners = await fill_with_leases(redis, 30, 20)
    await enqueue_many(redis, 1_200)
    assert await redis.zcard(KEYS.pending) + await redis.zcard(KEYS.leases) > MAX_JOBS
    evals, commands = await num_scripts(redis), await num_commands(redis)
    await STEPS[step](redis, owners)
    evals, commands = await num_scripts(redis) - evals, await num_commands(redis) - commands
    assert commands / evals <= MAX_COMMANDS_PER_SCRIPT
    if step == "a dead worker's jobs go back":
        assert commands <= 20 * 12, "the jobs of others cost nothing"
