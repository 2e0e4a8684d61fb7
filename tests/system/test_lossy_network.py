"""Networks that swallow, memory that comes and goes: what cannot pass ends one job, others are answered."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.network import Proxy
from support.redis_server import RedisServer
from support.serving import MODEL, worker
from support.text_bytes import text_bytes_now

from producer import Client
from producer.contract import Keys, queue_name
from producer.errors import JobFailed, QueueUnavailable

pytestmark = [pytest.mark.every_server, pytest.mark.slow, pytest.mark.timeout(300)]

KEYS = Keys(queue_name(MODEL))
IMPATIENT = "?socket_timeout=1"
PACKET_BYTES = 20_000
LARGE_ANSWER = [f"text {number}" for number in range(150)]
LARGE_REQUEST = [f"text {number} of many that make a large request" for number in range(600)]


@pytest.fixture
def server(program: str, tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(program, tmp_path / "server") as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


async def all_answered(client: Client, name: str, count: int = 10) -> bool:
    """Whether so many small jobs are answered at once."""
    replies = await asyncio.gather(
        *(client.embed([f"{name} {number}"], timeout_s=60) for number in range(count))
    )
    return all(reply.ok for reply in replies)


async def test_an_answer_that_the_path_swallows_ends_its_job_alone(server: RedisServer, proxy: Proxy) -> None:
    """It is told as a code, and kept as a dead letter; answers beside it arrive, and its slot is free."""
    proxy.max_packet = PACKET_BYTES
    async with worker(proxy.url + IMPATIENT, max_jobs=2), Client(server.url, model=MODEL) as client:
        large = (await client.submit(LARGE_ANSWER)).job
        assert await all_answered(client, "beside")
        with pytest.raises(JobFailed) as failed:
            await client.result(large, timeout_s=120)
        assert failed.value.worker_code == "answer_refused"
        assert [letter.job for letter in await client.dead_letters()] == [large]
        assert await all_answered(client, "after")
    with server.client() as redis:
        assert redis.zcard(KEYS.leases) == 0
        assert text_bytes_now(redis, KEYS) == 0


async def test_a_request_that_the_path_swallows_fails_its_sender_alone(
    server: RedisServer, proxy: Proxy
) -> None:
    """Once its outage budget is spent; the client goes on with others, and nothing of it is on the queue."""
    proxy.max_packet = PACKET_BYTES
    async with worker(server.url), Client(proxy.url + IMPATIENT, model=MODEL, outage_s=4) as client:
        refused = asyncio.create_task(client.submit(LARGE_REQUEST))
        assert await all_answered(client, "beside")
        with pytest.raises(QueueUnavailable):
            await refused
        assert await all_answered(client, "after")
    with server.client() as redis:
        assert redis.zcard(KEYS.pending) == redis.zcard(KEYS.leases) == 0
        assert redis.hget(KEYS.totals, "bytes") == "0"


async def test_connections_that_are_swallowed_again_and_again(server: RedisServer, proxy: Proxy) -> None:
    """Of clients and workers, at any moment: every job is answered, once, and none is given up."""
    url = proxy.url + IMPATIENT
    async with (
        Client(url, model=MODEL) as client,
        worker(url, lease_s=2.0),
        worker(url, lease_s=2.0),
    ):
        answers = asyncio.create_task(all_answered(client, "job", 200))
        for _ in range(5):
            await asyncio.sleep(0.3)
            proxy.forget()
            await asyncio.sleep(1.5)
        assert await answers
    with server.client() as redis:
        totals = redis.hgetall(KEYS.totals)
    assert (totals["done"], totals["bytes"]) == ("200", "0")
    assert "failed" not in totals


async def test_memory_that_comes_and_goes_burns_no_try(server: RedisServer) -> None:
    """While suspects are tested range by range, each of which is marked first."""
    async with Client(server.url, model=MODEL) as client:
        jobs = [(await client.submit([f"text {number}", "another"])).job for number in range(20)]
        with server.client() as redis:
            for job in jobs:
                redis.hset(KEYS.job(job), "bisection", "1;;;0-1,1-2;")
            async with worker(server.url, max_tries=1, backend={"delay_s": 0.05}):
                for _ in range(10):
                    redis.config_set("maxmemory", 1)
                    await asyncio.sleep(0.2)
                    redis.config_set("maxmemory", 0)
                    await asyncio.sleep(0.1)
                for job in jobs:
                    assert (await client.result(job, timeout_s=120)).ok
            assert redis.zcard(KEYS.dead_letters) == 0
            assert redis.hgetall(KEYS.totals)["done"] == "20"
