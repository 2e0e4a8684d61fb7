"""A job of one text does not wait for the bulk jobs that a worker holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from support.clockwork import Clockwork
from support.serving import MODEL, booted

from producer import Client
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.queue.enqueue import Priority
from producer.transport.connect import end_tasks
from worker.serving.app import serve
from worker.settings import Settings

KEYS = Keys(queue_name(MODEL))
BULK = [[f"bulk text {job} {text} " * 40 for text in range(600)] for job in range(3)]


@asynccontextmanager
async def steady_worker(url: str) -> AsyncIterator[None]:
    """With a device that needs several seconds for each bulk job."""
    settings = Settings(model=MODEL, redis_url=url, max_batch_s=0.05)
    found = booted(settings)
    found.backend.close()
    device = Clockwork(dim=found.model.dim, max_text_tokens=found.model.max_text_tokens)
    serving = serve(settings, replace(found, backend=device, tokens_per_s=1 / device.s_per_token))
    task = asyncio.create_task(serving)
    try:
        yield
    finally:
        await end_tasks(task)


@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.HIGH])
async def test_one_text_passes_bulk_jobs(redis: Redis, server: EmbeddedServer, priority: Priority) -> None:
    """Whatever its priority: it is answered before any of them, those on the queue and those that run."""
    async with Client(server.url, model=MODEL) as client, steady_worker(server.url):
        bulk = [(await client.submit(texts)).job for texts in BULK]
        async with asyncio.timeout(20):
            while await redis.zcard(KEYS.leases) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        for number in range(3):
            assert (await client.embed([f"urgent {number}"], priority=priority, timeout_s=20)).ok
        assert not await redis.exists(*(KEYS.result(job) for job in bulk))
        for job in bulk:
            await client.cancel(job)
