"""A job that has not begun by its deadline is answered so, and never embedded in vain."""

import asyncio
import math
import time

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hget, hset
from support.serving import MODEL, worker

from producer import Client, QueueLimits
from producer.contract import EmbedOptions, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import InvalidOption, JobFailed
from producer.queue.deadlines import LIFE_S
from producer.queue.enqueue import prepare_job, submit
from worker.consumer.leases import Leases

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))


async def fails_overdue(client: Client, job: str) -> None:
    with pytest.raises(JobFailed, match="no worker had begun the job by its deadline") as failed:
        await client.result(job, timeout_s=10)
    assert failed.value.worker_code == "deadline_exceeded"


async def test_without_a_worker_it_is_answered_on_time(redis: Redis, server: EmbeddedServer) -> None:
    """To whoever waits; and what the job held is free again."""
    async with Client(server.url, model=MODEL) as client:
        started_s = time.monotonic()
        with pytest.raises(JobFailed) as failed:
            await client.embed(["late"], deadline_s=0.3, timeout_s=10)
        assert failed.value.worker_code == "deadline_exceeded"
        assert 0.3 <= time.monotonic() - started_s < 5
        job = (await client.submit(["unread"], deadline_s=0.01)).job
        await fails_overdue(client, job)
    assert await redis.exists(KEYS.pending, KEYS.job(job), KEYS.request(job)) == 0
    assert await hget(redis, KEYS.totals, "failed") == b"2"


async def test_a_claim_ends_it_and_goes_on(redis: Redis, server: EmbeddedServer) -> None:
    """Those behind it are claimed with the same command."""
    owner = Leases(redis, KEYS, worker="w", lease_s=30)
    async with Client(server.url, model=MODEL) as client:
        late = [(await client.submit([f"late {n}"], deadline_s=0.01)).job for n in range(3)]
        good = (await client.submit(["good"], deadline_s=60)).job
        await asyncio.sleep(0.05)
        assert [claim.job for claim, _ in await owner.claim(4, 1 << 30)] == [good]
        for job in late:
            await fails_overdue(client, job)
        assert await redis.zcard(KEYS.pending) == 0


async def test_it_is_checked_again_before_computing(redis: Redis, server: EmbeddedServer) -> None:
    """A worker that claimed it in time, but is busy until later, does not embed it."""
    backend = {"delay_s": 0.4, "max_batch_tokens": 512}
    async with Client(server.url, model=MODEL) as client, worker(server.url, backend=backend):
        first = asyncio.create_task(client.embed([f"{n} " + "word " * 200 for n in range(8)]))
        await asyncio.sleep(0.2)
        with pytest.raises(JobFailed) as failed:
            await client.embed(["word " * 200], deadline_s=0.1, timeout_s=10)
        assert failed.value.worker_code == "deadline_exceeded"
        assert (await first).ok


async def test_one_that_has_begun_in_time_is_answered(redis: Redis, server: EmbeddedServer) -> None:
    """However long it takes."""
    async with Client(server.url, model=MODEL) as client, worker(server.url, backend={"delay_s": 1.0}):
        assert (await client.embed(["slow"], deadline_s=0.6)).ok


async def test_asked_for_again_it_is_embedded(redis: Redis, server: EmbeddedServer) -> None:
    """Its failure is not joined."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["text"], deadline_s=0.01)).job
        await fails_overdue(client, job)
        assert not (await client.submit(["text"])).joined
        async with worker(server.url):
            assert (await client.result(job)).ok


async def test_joining_takes_the_later_deadline(redis: Redis, server: EmbeddedServer) -> None:
    """Whoever has more time still wants it."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["text"], deadline_s=0.01)).job
        await client.submit(["text"], deadline_s=60)
        await client.submit(["text"], deadline_s=0.01)
        await asyncio.sleep(0.05)
        async with worker(server.url):
            assert (await client.result(job)).ok


async def test_the_wait_for_room_counts(redis: Redis, server: EmbeddedServer) -> None:
    """A call that finds the queue full until its deadline fails in the same way."""
    async with Client(server.url, model=MODEL, limits=QueueLimits(max_jobs=1)) as client:
        await client.submit(["full"])
        with pytest.raises(JobFailed) as failed:
            await client.embed(["text"], deadline_s=0.2)
        assert failed.value.worker_code == "deadline_exceeded"


async def test_every_job_has_an_end(redis: Redis) -> None:
    """After seven days, also if no worker ever comes: its keys end a day later."""
    prepared = prepare_job(build_request(MODEL, ["text"], EmbedOptions()))
    await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=60)
    for key in (KEYS.job(prepared.job), KEYS.request(prepared.job), KEYS.pending):
        assert LIFE_S < await redis.ttl(key) <= LIFE_S + 24 * 3600
    await hset(redis, KEYS.job(prepared.job), "deadline", 1)
    assert await Leases(redis, KEYS, worker="w", lease_s=30).claim(1, 1 << 30) == []
    assert await redis.exists(KEYS.result(prepared.job))


@pytest.mark.parametrize("deadline_s", [0, -1, math.inf, math.nan, LIFE_S + 1, "soon", True])
async def test_a_deadline_is_a_time(redis: Redis, server: EmbeddedServer, deadline_s: float) -> None:
    """Within seven days."""
    async with Client(server.url, model=MODEL) as client:
        with pytest.raises(InvalidOption, match="deadline_s must be"):
            await client.submit(["text"], deadline_s=deadline_s)
