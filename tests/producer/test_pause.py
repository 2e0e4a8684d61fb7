"""A paused queue: nobody claims, everybody is told, and it ends when it should."""

import asyncio
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.redis_server import RedisServer
from support.serving import MODEL, producer, worker

from producer import Client, SyncClient
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import InvalidOption, NoWorker, ResultTimeout
from producer.queue.status import QueueStatus, read_queue, read_status
from producer.transport.connect import subscribed
from worker.cli.rates import Rates
from worker.cli.top_view import queues_json
from worker.consumer.leases import Leases
from worker.telemetry.prometheus import queue_families

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))


async def test_nothing_is_claimed_until_it_is_resumed(redis: Redis, server: EmbeddedServer) -> None:
    """What comes meanwhile waits, and is answered at once afterwards, without a try that it cost."""
    async with Client(server.url, model=MODEL) as client, worker(server.url):
        assert (await client.embed(["before"])).ok
        await client.pause()
        job = (await client.submit(["meanwhile"])).job
        await asyncio.sleep(1.0)  # the worker has asked several times
        [waiting] = await client.jobs()
        assert (waiting.job, waiting.state, waiting.tries) == (job, "pending", 0)
        assert await client.resume()
        began_s = time.monotonic()
        assert (await client.result(job, timeout_s=10)).ok
        assert time.monotonic() - began_s < 5
        assert not await client.resume()


async def test_resuming_wakes_a_worker(redis: Redis, server: EmbeddedServer) -> None:
    """Instead of leaving it to its next look; a pause leaves it idle. Where there was none it is quiet."""
    heard: list[bytes] = []
    channel = KEYS.wakeup("a")
    async with subscribed(redis, channel, heard.append), Client(server.url, model=MODEL) as client:
        await client.submit(["a text"])
        await client.pause()
        assert await Leases(redis, KEYS, worker="a", lease_s=30).claim(1, 1 << 20) == []
        await client.resume()
        await client.resume()
        await redis.publish(channel, "last")
        while not heard or heard[-1] != b"last":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert heard == [b"+", b"last"]


async def test_what_runs_goes_on(redis: Redis, server: EmbeddedServer) -> None:
    """Its lease is renewed, its result is written; an expired lease goes back to pending and stays there."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text"])).job
        owner = Leases(redis, KEYS, worker="a", lease_s=0.05)
        [(claim, _)] = await owner.claim(1, 1 << 20)
        await client.pause()
        await owner.renew(redis, [claim])
        await asyncio.sleep(0.3)
        await redis.zadd(KEYS.workers, {"a": 9e15})  # it is alive: no outage extends its lease
        assert await Leases(redis, KEYS, worker="b", lease_s=30).claim(1, 1 << 20) == []
        [waiting] = await client.jobs()
        assert (waiting.job, waiting.state) == (job, "pending")


async def test_a_pause_may_have_an_end(redis: Redis, server: EmbeddedServer) -> None:
    """By the server's clock; a new pause replaces it, and none can be of no length."""
    async with Client(server.url, model=MODEL) as client, worker(server.url):
        await client.pause(for_s=600)
        assert 590_000 < await redis.pttl(KEYS.paused) <= 600_000
        await client.pause()
        assert await redis.pttl(KEYS.paused) == -1
        await client.pause(for_s=0.5)
        assert (await client.embed(["a text"], timeout_s=20)).ok
        assert not await client.resume()
        for for_s in (0, -1, float("nan"), float("inf"), "10"):
            with pytest.raises(InvalidOption, match="a pause lasts"):
                await client.pause(for_s=for_s)  # type: ignore[arg-type]


async def test_a_paused_queue_is_waited_for(redis: Redis, server: EmbeddedServer) -> None:
    """Also while its workers are away: no call ends with NoWorker before the queue is resumed."""
    async with Client(server.url, model=MODEL, wait_for_worker_s=0.0) as client:
        await client.pause()
        with pytest.raises(ResultTimeout):
            await client.embed(["a text"], timeout_s=2.5)
        await client.resume()
        with pytest.raises(NoWorker):
            await client.embed(["a text"], timeout_s=10)


async def test_everybody_is_told(redis: Redis, server: EmbeddedServer) -> None:
    """In the status, on the screen of `worker top`, in the metrics; also of a queue that has no job yet."""
    async with Client(server.url, model=MODEL) as client:
        await client.pause(for_s=600)
        [queue] = await read_status(redis, "embedmill")
        assert queue.paused
        assert queue.resumes_in_s == pytest.approx(600, abs=30)
        [told] = queues_json([queue], Rates())
        assert told["paused"]
        _, output, _ = await producer("status", redis_url=server.url)
        assert "queue fake_echo is paused for another" in output
        assert _paused_metric(await read_queue(redis, KEYS)) == 1
        await client.pause()
        queue = await read_queue(redis, KEYS)
        assert (queue.paused, queue.resumes_in_s) == (True, None)
        await client.resume()
        queue = await read_queue(redis, KEYS)
        assert (queue.paused, queue.resumes_in_s) == (False, None)
        assert _paused_metric(queue) == 0


def _paused_metric(queue: QueueStatus) -> float:
    families = queue_families(MODEL, asdict(queue))
    [sample] = [s for one in families for s in one.samples if s.name == "embedmill_queue_paused"]
    return sample.value


def test_it_survives_a_restart(program: str, tmp_path: Path) -> None:
    """Of the server, if that keeps its data; a pause that ended meanwhile has ended."""
    with RedisServer(program, tmp_path / "redis", appendonly="yes", appendfsync="always") as server:
        with SyncClient(server.url, model=MODEL) as client, SyncClient(server.url, model="other") as other:
            client.pause(for_s=600)
            other.pause(for_s=0.2)
        server.kill()
        time.sleep(0.2)
        server.start()
        with server.client() as redis:
            assert 500_000 < int(redis.pttl(KEYS.paused)) <= 600_000
            assert not redis.exists(Keys("other").paused)
