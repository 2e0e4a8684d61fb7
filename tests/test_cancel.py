"""Cancellation: whatever state a job is in, it is answered once and leaves nothing behind."""

import asyncio

import pytest
from redis.asyncio import Redis
from serving import MODEL, producer, worker

from producer import Client
from producer.contract import Keys, queue_name
from producer.embedded import EmbeddedServer
from producer.errors import JobFailed
from worker.leases import Answer, Leases

KEYS = Keys(queue_name(MODEL))


def running() -> set[str]:
    """Ids of the jobs that workers in this process run: their tasks are named after them."""
    return {task.get_name() for task in asyncio.all_tasks()}


async def test_a_waiting_job_is_removed_and_answered(redis: Redis, server: EmbeddedServer) -> None:
    """Whoever awaits it hears it at once; a second cancellation finds nothing."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text"])).job
        awaiting = asyncio.create_task(client.result(job, timeout_s=10))
        await asyncio.sleep(0.05)
        assert await client.cancel(job)
        with pytest.raises(JobFailed, match="was cancelled") as failed:
            await awaiting
        assert failed.value.worker_code == "cancelled"
        assert not await client.cancel(job)
        assert not await client.cancel("never-there")
    assert set(await redis.keys()) == {KEYS.totals.encode(), KEYS.result(job).encode()}
    assert await redis.hgetall(KEYS.totals) == {b"bytes": b"0", b"cancelled": b"1"}
    assert 0 < await redis.ttl(KEYS.result(job)) <= 60


async def test_a_running_job_is_ended_at_its_worker(redis: Redis, server: EmbeddedServer) -> None:
    """At once, long before its lease would be found lost, and the next job is served."""
    backend = {"delay_s": 0.3, "max_batch_tokens": 512}
    async with worker(server.url, backend=backend, lease_s=60.0), Client(server.url, model=MODEL) as client:
        job = (await client.submit([f"{n} " + "word " * 200 for n in range(300)])).job  # 45 s of work
        for _ in range(200):
            if job in running():
                break
            await asyncio.sleep(0.01)
        assert job in running()
        assert await client.cancel(job)
        for _ in range(100):
            if job not in running():
                break
            await asyncio.sleep(0.02)
        assert job not in running()
        assert (await client.embed(["next"], timeout_s=20)).ok
        with pytest.raises(JobFailed) as failed:
            await client.result(job)
        assert failed.value.worker_code == "cancelled"
        assert await redis.hget(KEYS.totals, "bytes") == b"0"


async def test_the_owner_of_a_cancelled_job_writes_nothing(redis: Redis, server: EmbeddedServer) -> None:
    """Not even when the same job was enqueued and claimed again, by the same worker."""
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text"])).job
        [(first, _)] = await owner.claim(1, 1 << 30)
        assert await client.cancel(job)
        answer = await redis.getdel(KEYS.result(job))
        await asyncio.sleep(0.002)
        await client.submit(["a text"])
        [(second, _)] = await owner.claim(1, 1 << 30)
        assert (second.job, second.tries) == (first.job, first.tries)
        assert not await owner.finish(first, Answer(answer))
        assert not await owner.release(first, burn_try=False)
        assert await owner.finish(second, Answer(answer))


async def test_the_command(redis: Redis, server: EmbeddedServer) -> None:
    """Job by job, and status 1 if one was not there."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text"])).job
    command = ("cancel", job, "never-there", "--model", MODEL)
    status, output, errors = await producer(*command, redis_url=server.url)
    assert (status, output) == (1, f"{job}: cancelled\n")
    assert errors == "never-there: not on the queue\n"
