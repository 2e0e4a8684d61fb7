"""The byte counter is soon right again, whatever became of the jobs that were counted."""

import asyncio

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hget, hset
from support.serving import MODEL, worker

from producer import Client
from producer.contract import EmbedOptions, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from worker.consumer import reconcile
from worker.consumer.leases import Leases
from worker.consumer.reconcile import Reconciler

pytestmark = pytest.mark.every_server


async def enqueue(redis: Redis, keys: Keys, text: str) -> str:
    prepared = prepare_job(build_request("m", [text], EmbedOptions()))
    return (await submit(redis, keys, prepared, limits=QueueLimits(), keep_result_s=60)).job


async def test_what_was_lost_is_given_back(redis: Redis, keys: Keys) -> None:
    """Pending, running and pausing jobs count; one whose hash is gone does not."""
    jobs = [await enqueue(redis, keys, text * 10) for text in "abcd"]
    leases = Leases(redis, keys, worker="w", lease_s=30)
    (running, _), (pausing, _) = await leases.claim(2, 1 << 30)
    await leases.release(pausing, pause_s=30, burn_try=True)
    pending = [job for job in jobs if job not in (running.job, pausing.job)]
    await redis.delete(keys.job(pending[0]))
    assert await hget(redis, keys.totals, "bytes") == b"40"
    await Reconciler(keys, "w")(redis)
    assert await hget(redis, keys.totals, "bytes") == b"30"


async def test_an_empty_queue_holds_nothing(redis: Redis, server: EmbeddedServer) -> None:
    """A worker corrects it at its start; without that the queue would stay full."""
    keys = Keys(queue_name(MODEL))
    await hset(redis, keys.totals, "bytes", 1 << 40)
    async with worker(server.url), asyncio.timeout(10):
        while await hget(redis, keys.totals, "bytes") != b"0":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        async with Client(server.url, model=MODEL) as client:
            assert (await client.embed(["a text"])).ok


async def test_one_worker_counts_now_and_then(redis: Redis, keys: Keys) -> None:
    """The first by name, not before its time, and never a queue that is very long."""
    for name in "ab":
        await Leases(redis, keys, worker=name, lease_s=30).renew(redis, [])
    first, second = Reconciler(keys, "a"), Reconciler(keys, "b")

    async def drift_after(reconcile_once: Reconciler) -> bool:
        await hset(redis, keys.totals, "bytes", 5)
        await reconcile_once(redis)
        return await hget(redis, keys.totals, "bytes") == b"5"

    assert await drift_after(second)
    assert not await drift_after(first)
    assert await drift_after(first)
    await redis.zadd(keys.pending, {f"job{n}": n for n in range(reconcile.MAX_JOBS + 1)})
    assert await drift_after(Reconciler(keys, "a"))
