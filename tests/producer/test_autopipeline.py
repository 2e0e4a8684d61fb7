"""Commands of many coroutines travel together, and each hears of its own alone."""

import asyncio
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError, ResponseError
from support.network import Proxy
from support.redis_server import RedisServer

from producer.transport.autopipeline import MAX_COMMANDS, AutoPipeline
from producer.transport.connect import connect, end_tasks
from producer.transport.retry import OutageBudget

pytestmark = pytest.mark.every_server


async def num_reads(redis: Redis) -> int:
    """How often the server has read from a connection."""
    return int((await redis.info("stats"))["total_reads_processed"])


async def test_what_is_sent_at_once_travels_together(redis: Redis) -> None:
    """And everybody gets the replies to the own commands, in their order."""
    pipeline = AutoPipeline(redis)
    await pipeline.send(("PING",))
    before = await num_reads(redis)
    sent = (pipeline.send(("SET", f"key {n}", str(n)), ("GET", f"key {n}")) for n in range(MAX_COMMANDS))
    replies = await asyncio.gather(*sent)
    assert replies == [[b"OK", b"%d" % n] for n in range(MAX_COMMANDS)]
    assert await num_reads(redis) - before <= 4


async def test_what_is_sent_meanwhile_goes_next(redis: Redis) -> None:
    """Nobody is forgotten while a pipeline is on its way."""
    pipeline = AutoPipeline(redis)

    async def ask(n: int) -> int:
        for _ in range(n % 5):
            await asyncio.sleep(0)
        [number] = await pipeline.send(("INCR", "counter"))
        return int(number)

    assert sorted(await asyncio.gather(*(ask(n) for n in range(500)))) == list(range(1, 501))


async def test_a_command_that_fails_fails_its_sender_alone(redis: Redis) -> None:
    """Whether the server refuses it or it cannot be encoded; and the error does not repeat what was sent."""
    pipeline = AutoPipeline(redis)
    await redis.set("text", "a")
    outcomes = await asyncio.gather(
        pipeline.send(("GET", "text")),
        pipeline.send(("PING",), ("LPUSH", "text", "a secret")),
        pipeline.send(("GET", "\ud800")),
        pipeline.send(("GET", "text")),
        return_exceptions=True,
    )
    assert outcomes[0] == outcomes[3] == [b"a"]
    assert isinstance(outcomes[1], ResponseError)
    assert "secret" not in str(outcomes[1])
    assert isinstance(outcomes[2], UnicodeEncodeError)


async def test_large_ones_do_not_hold_up_many(redis: Redis) -> None:
    """What is beyond the bounds goes with a later pipeline, and arrives."""
    pipeline = AutoPipeline(redis)
    payloads = [bytes([n]) * 200_000 for n in range(10)]
    await asyncio.gather(*(pipeline.send(("SET", str(n), payload)) for n, payload in enumerate(payloads)))
    assert [await redis.get(str(n)) for n in range(10)] == payloads


async def test_who_gave_up_does_not_disturb_the_others(redis: Redis) -> None:
    """What was not yet on its way is not sent."""
    pipeline = AutoPipeline(redis)
    first = asyncio.create_task(pipeline.send(("SET", "first", "1")))
    waiting = [asyncio.create_task(pipeline.send(("INCR", "counter"))) for _ in range(3)]
    await asyncio.sleep(0)
    await end_tasks(waiting[1])
    await asyncio.gather(first, waiting[0], waiting[2])
    assert await redis.get("counter") in (b"2", b"3")  # it may have been on its way
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]


async def worst_of(pipeline: AutoPipeline, *, for_s: float) -> float:
    """The longest that a small command has taken meanwhile, in seconds."""
    worst_s, started_s = 0.0, time.monotonic()
    while time.monotonic() < started_s + for_s:
        sent_s = time.monotonic()
        assert await pipeline.send(("PING",)) == [b"PONG"]
        worst_s = max(worst_s, time.monotonic() - sent_s)
        await asyncio.sleep(0.01)
    return worst_s


async def failing_s(pipeline: AutoPipeline, value: bytes) -> float:
    """After how many seconds the sender of this value hears that it does not pass."""
    sent_s = time.monotonic()
    with pytest.raises((RedisError, OSError)):
        await pipeline.send(("SET", "large", value), ("GET", "large"))
    return time.monotonic() - sent_s


async def test_what_the_server_cuts_off_fails_its_sender_alone(program: str, tmp_path: Path) -> None:
    """Within its outage budget, although others succeed all the time: at once, if the server said why."""
    with RedisServer(program, tmp_path / "server", proto_max_bulk_len="1mb") as server:
        async with connect(server.url, outage_budget=OutageBudget(1.5)) as redis:
            pipeline = AutoPipeline(redis)
            lost = asyncio.create_task(failing_s(pipeline, bytes(2_000_000)))
            beside = asyncio.create_task(pipeline.send(("SET", "small", "1")))
            assert await worst_of(pipeline, for_s=2.5) < 1
            assert await beside == [b"OK"]
            assert await lost < 2.5


async def test_what_the_path_swallows_fails_its_sender_alone(program: str, tmp_path: Path) -> None:
    """New commands overtake the pipeline that does not come back; those in it go again by themselves."""
    with RedisServer(program, tmp_path / "server") as server, Proxy(server.port) as proxy:
        proxy.max_packet = 20_000
        async with connect(proxy.url, timeout_s=2, outage_budget=OutageBudget(4)) as redis:
            pipeline = AutoPipeline(redis)
            lost = asyncio.create_task(failing_s(pipeline, bytes(30_000)))
            beside = asyncio.create_task(pipeline.send(("SET", "small", "1")))
            await asyncio.sleep(0.1)
            assert await worst_of(pipeline, for_s=5) < 1.5
            assert await beside == [b"OK"]
            assert 3 < await lost < 7
            assert not pipeline.is_busy


async def test_who_waits_for_a_server_that_is_away_waits_for_the_budget(program: str, tmp_path: Path) -> None:
    """Each from the first try of its own, however long the server was away before."""
    server = RedisServer(program, tmp_path / "server")
    async with connect(server.url, outage_budget=OutageBudget(1.0)) as redis:
        pipeline = AutoPipeline(redis)
        for _ in range(2):
            sent_s = time.monotonic()
            with pytest.raises((ConnectionError, OSError)):
                await pipeline.send(("PING",))
            assert 0.9 < time.monotonic() - sent_s < 3
        waiting = asyncio.create_task(pipeline.send(("PING",)))
        with server:
            assert await waiting == [b"PONG"]
