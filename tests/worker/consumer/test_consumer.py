"""The consumer's loop: what signals, cancellations and bugs make of the jobs that it holds."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hget, hgetall

from producer.contract import EmbedOptions, Failure, Keys, build_request, encode_failure
from producer.embedded.services import EmbeddedServer
from producer.errors import BackendDead
from producer.queue.cancel import Cancellation
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from producer.transport.connect import connect
from worker.consumer.consumer import Consumer
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.leases import Claim, JobResult, Leases
from worker.telemetry.activity import Activity
from worker.telemetry.counters import Counters
from worker.telemetry.observers import JobObserver

RESULT = JobResult(encode_failure(Failure(code="test", message="a result")))


@dataclass
class Work:
    """Jobs that run until they are let go."""

    started: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    async def __call__(self, claim: Claim, payload: bytes | None) -> JobResult:
        self.started.append(claim.job)
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return RESULT

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.started) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def enqueue(redis: Redis, keys: Keys, count: int) -> list[str]:
    return [await enqueue_one(redis, keys, f"text {number}") for number in range(count)]


async def enqueue_one(redis: Redis, keys: Keys, text: str) -> str:
    prepared = prepare_job(build_request("m", [text], EmbedOptions()))
    return (await submit(redis, keys, prepared, limits=QueueLimits(), keep_result_s=60)).job


@asynccontextmanager
async def consuming(
    server: EmbeddedServer, redis: Redis, keys: Keys, work: Work, *, grace_s: float = 20.0
) -> AsyncIterator[asyncio.Task[None]]:
    """A consumer's `run` as a task, which has ended after the block."""
    leases = Leases(redis, keys, worker="w", lease_s=30)
    consumer = Consumer(
        work,
        redis=redis,
        keys=keys,
        leases=leases,
        observer=JobObserver(Counters()),
        activity=Activity(30),
        max_jobs=4,
        max_tries=3,
        grace_s=grace_s,
    )
    client = connect(server.url)
    beats = Heartbeat(leases, client, lease_s=30, on_lost=consumer.lease_lost, on_death=print)
    with closing(beats) as heartbeat:
        task = asyncio.create_task(consumer.run(heartbeat))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])


async def tries(redis: Redis, keys: Keys) -> dict[str, int]:
    """Of each pending job."""
    pending = [job.decode() for job in await redis.zrange(keys.pending, 0, -1)]
    found = {job: await hget(redis, keys.job(job), "tries") for job in pending}
    return {job: int(tried) for job, tried in found.items() if tried is not None}


async def test_the_first_signal_drains_and_the_second_hands_back(
    server: EmbeddedServer, redis: Redis, keys: Keys
) -> None:
    """After the first nothing is claimed; what is handed back has cost no try."""
    work = Work()
    async with consuming(server, redis, keys, work) as task:
        jobs = await enqueue(redis, keys, 3)
        await work.wait_for(3)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        jobs.append(await enqueue_one(redis, keys, "one more"))
        await asyncio.sleep(0.5)
        assert sorted(work.started) == sorted(jobs[:3])
        assert not task.done()
        signal.raise_signal(signal.SIGINT)
        await asyncio.wait_for(task, 10)
    assert await tries(redis, keys) == dict.fromkeys(jobs, 0)
    assert await redis.zcard(keys.leases) == 0


async def test_the_grace_is_bounded(server: EmbeddedServer, redis: Redis, keys: Keys) -> None:
    """What takes longer goes back."""
    work = Work()
    async with consuming(server, redis, keys, work, grace_s=0.3) as task:
        [job] = await enqueue(redis, keys, 1)
        await work.wait_for(1)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    assert await tries(redis, keys) == {job: 0}


async def test_draining_ends_with_the_last_job(server: EmbeddedServer, redis: Redis, keys: Keys) -> None:
    """At once, not with the grace."""
    work = Work()
    async with consuming(server, redis, keys, work) as task:
        [job] = await enqueue(redis, keys, 1)
        await work.wait_for(1)
        signal.raise_signal(signal.SIGTERM)
        work.go.set()
        await asyncio.wait_for(task, 5)
    assert await redis.get(keys.result(job)) == RESULT.payload


@pytest.mark.parametrize("cancellations", [1, 2])
async def test_a_cancellation_hands_everything_back(
    server: EmbeddedServer, redis: Redis, keys: Keys, cancellations: int
) -> None:
    """One in the middle of handing back as well, as when a stage dies then."""
    work = Work()
    async with consuming(server, redis, keys, work) as task:
        jobs = await enqueue(redis, keys, 3)
        await work.wait_for(3)
        for _ in range(cancellations):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
    assert await tries(redis, keys) == dict.fromkeys(jobs, 0)


async def test_a_dead_backend_ends_the_consumer(server: EmbeddedServer, redis: Redis, keys: Keys) -> None:
    """With its error; the job that met it is left to whoever comes after a death."""
    work = Work(error=BackendDead("the device is gone"))
    async with consuming(server, redis, keys, work) as task:
        await enqueue(redis, keys, 1)
        await work.wait_for(1)
        work.go.set()
        with pytest.raises(BackendDead, match="the device is gone"):
            await asyncio.wait_for(task, 10)
    assert await redis.zcard(keys.leases) == 1


async def test_a_cancelled_or_lost_job_stops_alone(server: EmbeddedServer, redis: Redis, keys: Keys) -> None:
    """The others go on."""
    work = Work()
    async with consuming(server, redis, keys, work):
        first, second = await enqueue(redis, keys, 2)
        await work.wait_for(2)
        assert await Cancellation(redis, keys).cancel(first)
        await asyncio.sleep(0.2)
        work.go.set()
        async with asyncio.timeout(10):
            while not await redis.exists(keys.result(second)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    kept = sum([await redis.strlen(keys.result(job)) for job in (first, second)])
    totals = await hgetall(redis, keys.totals)
    del totals[b"heard"]
    assert totals == {b"bytes": b"%d" % kept, b"cancelled": b"1", b"done": b"1"}
