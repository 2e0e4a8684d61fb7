"""Each client has a channel of its own, hears of its own jobs only, and polls only while it cannot hear."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from support.serving import MODEL, worker

from producer import Client
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import PayloadError
from producer.transport.connect import end_tasks
from worker.consumer.leases import JobResult, Leases

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
ANSWER = JobResult(b"answer")


@pytest.fixture
async def client(server: EmbeddedServer, redis: Redis) -> AsyncIterator[Client]:
    async with Client(server.url, model=MODEL) as one:
        yield one


async def calls(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return sum(row["calls"] for name, row in stats.items() if name not in ("cmdstat_info", "cmdstat_ping"))


async def messages(listening: object) -> list[tuple[str, bytes]]:
    found = []
    while message := await listening.get_message(timeout=0.2):  # type: ignore[attr-defined]
        if message["type"] == "pmessage":
            found.append((message["channel"].decode(), message["data"]))
    return found


async def end_all(redis: Redis) -> None:
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    claims = [claim for claim, _ in await owner.claim(10, 1 << 30)]
    assert all(await asyncio.gather(*(owner.finish(claim, ANSWER) for claim in claims)))


async def test_an_answer_is_told_to_those_who_asked(
    server: EmbeddedServer, client: Client, redis: Redis
) -> None:
    """Each client once for all that ended together: who enqueued, who joined, and who awaits by id."""
    async with (
        Client(server.url, model=MODEL) as joins,
        Client(server.url, model=MODEL) as awaits,
        Client(server.url, model=MODEL) as other,
        redis.pubsub() as listening,
    ):
        await listening.psubscribe(KEYS.notifications("*"))
        submitted = (await other.submit(["nobody waits for it"])).job
        waiting = [asyncio.create_task(client.embed([text])) for text in ("one", "two")]
        await asyncio.sleep(0.1)
        waiting.append(asyncio.create_task(joins.embed(["one"])))
        [one] = [job for job in await jobs(redis) if job != submitted and await is_wanted_twice(redis, job)]
        waiting.append(asyncio.create_task(awaits.result(one)))
        await asyncio.sleep(0.1)
        await end_all(redis)
        told = await messages(listening)
        assert sorted(len(data.split()) - 1 for _, data in told) == [1, 1, 2]
        assert len({channel for channel, _ in told}) == 3
        assert not any(submitted.encode() in data for _, data in told)
        await end_tasks(*waiting)


async def jobs(redis: Redis) -> list[str]:
    return [job.decode() for job in await redis.zrange(KEYS.pending, 0, -1)]


async def is_wanted_twice(redis: Redis, job: str) -> bool:
    for _ in range(100):
        if await redis.execute_command("HGET", KEYS.job(job), "asks") == b"2":
            return True
        await asyncio.sleep(0.002)
    return False


async def test_who_waits_does_not_poll(client: Client, redis: Redis) -> None:
    """However many jobs it waits for; it looks for workers now and then, once for all."""
    waiting = [asyncio.create_task(client.embed([f"text {n}"])) for n in range(100)]
    for _ in range(500):
        if await redis.zcard(KEYS.pending) == len(waiting):
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.1)  # they have looked for workers
    before = await calls(redis)
    await asyncio.sleep(2)
    assert await calls(redis) - before <= 3  # TIME, and the workers
    await end_tasks(*waiting)


async def test_what_ended_while_nobody_could_hear_is_found(client: Client, redis: Redis) -> None:
    """When the subscription is back everybody looks at once."""
    waiting = asyncio.create_task(client.embed(["text"]))
    await asyncio.sleep(0.1)
    await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await end_all(redis)
    async with asyncio.timeout(5):
        with pytest.raises(PayloadError):  # what ended is no answer, and is found
            await waiting


async def test_a_worker_whose_message_was_lost_finds_the_job(server: EmbeddedServer, redis: Redis) -> None:
    """Its heartbeat shows that jobs are pending; so does the return of its subscription."""
    async with worker(server.url, lease_s=0.6), Client(server.url, model=MODEL) as client:
        assert (await client.embed(["the first"])).ok
        await redis.delete(KEYS.idle)  # nobody is woken
        assert (await client.embed(["text"], timeout_s=10)).ok
