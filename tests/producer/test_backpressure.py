"""Producers at a full queue: they ask for room before they send, and are told when there is some."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis
from support.serving import MODEL, worker

from producer import Client
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import QueueFull
from producer.queue.enqueue import QueueLimits
from producer.transport.connect import end_tasks
from worker.consumer.leases import JobResult, Leases

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
FULL = QueueLimits(max_jobs=1)
LARGE = "x" * 200_000


@pytest.fixture
async def client(server: EmbeddedServer, redis: Redis) -> AsyncIterator[Client]:
    async with Client(server.url, model=MODEL, limits=FULL) as one:
        yield one


async def received(redis: Redis) -> int:
    """Bytes that the server was sent so far."""
    return int((await redis.info("stats"))["total_net_input_bytes"])


async def test_a_request_is_sent_once_there_is_room(client: Client, redis: Redis) -> None:
    """Not while the queue is full, however many wait and however often they try."""
    await client.submit(["the one that fits"])
    before = await received(redis)
    waiting = [asyncio.create_task(client.embed([f"{LARGE} {n}"])) for n in range(8)]
    for n in range(8):
        with pytest.raises(QueueFull):
            await client.submit([f"{LARGE} {n}"])
    await asyncio.sleep(1.2)  # they have asked twice
    assert await received(redis) - before < len(LARGE)
    await end_tasks(*waiting)


async def test_a_job_is_joined_at_a_full_queue(client: Client) -> None:
    """It needs no room."""
    first = await client.submit(["the one that fits"])
    with pytest.raises(QueueFull):
        await client.submit(["another"])
    assert (await client.submit(["the one that fits"])).joined
    assert (await client.submit(["the one that fits"], wait_if_full=True)).job == first.job


async def test_one_that_waits_is_woken_when_there_is_room(server: EmbeddedServer, redis: Redis) -> None:
    """The first that asked; the others go on waiting."""
    async with AsyncExitStack() as opened, redis.pubsub() as listening:
        clients = [Client(server.url, model=MODEL, limits=FULL) for _ in range(3)]
        for one in clients:
            await opened.enter_async_context(one)
        await clients[0].submit(["the one that fits"])
        await listening.psubscribe(KEYS.notifications("*"))
        waiting = []
        for n, one in enumerate(clients):
            waiting.append(asyncio.create_task(one.submit([f"text {n}"], wait_if_full=True)))
            for _ in range(200):
                if await redis.zcard(KEYS.waiting) > n:
                    break
                await asyncio.sleep(0.01)
        first = (await redis.zrange(KEYS.waiting, 0, 0))[0].decode()
        owner = Leases(redis, KEYS, worker="a", lease_s=30)
        [(claim, _)] = await owner.claim(1, 1 << 30)
        assert await owner.finish(claim, JobResult(b"answer"))
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        told = []
        while message := await listening.get_message(timeout=0.1):
            if message["type"] == "pmessage":
                told.append((message["channel"].decode(), message["data"]))
        assert told == [(KEYS.notifications(first), b"+")]
        is_first = [one._queue.notifications.client == first for one in clients]
        assert [task.done() for task in waiting] == is_first
        await end_tasks(*waiting)


async def test_all_that_wait_are_served(server: EmbeddedServer) -> None:
    """Many clients at a queue for two jobs, each with several calls at once."""
    async with worker(server.url), AsyncExitStack() as opened:
        limits = QueueLimits(max_jobs=2)
        clients = [Client(server.url, model=MODEL, limits=limits) for _ in range(4)]
        for one in clients:
            await opened.enter_async_context(one)
        calls = [one.embed([f"{n} of {id(one)}"], timeout_s=30) for one in clients for n in range(10)]
        assert all(reply.ok for reply in await asyncio.gather(*calls))
