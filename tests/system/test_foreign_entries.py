"""What others wrote under the queue's keys: it is set aside, or ignored, and stops nobody."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from support.serving import MODEL, worker

from producer import Client
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import InvalidOption, JobFailed
from producer.queue.enqueue import QueueLimits
from producer.queue.status import read_queue

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
ZADD = "ZADD"


@pytest.fixture
def url(server: EmbeddedServer) -> str:
    return server.url


def pending(job: bytes | str, **fields: str | bytes) -> Callable[[Redis], Awaitable[None]]:
    async def write(redis: Redis) -> None:
        for name, value in fields.items():
            await redis.execute_command("HSET", KEYS.job("").encode() + _raw(job), name, value)
        await redis.execute_command("ZADD", KEYS.pending, 1, job)  # last: from now on it is claimed

    return write


def command(*words: str | bytes | int) -> Callable[[Redis], Awaitable[None]]:
    async def write(redis: Redis) -> None:
        await redis.execute_command(*words)

    return write


def both(
    *writes: Callable[[Redis], Awaitable[None]],
) -> Callable[[Redis], Awaitable[None]]:
    async def write(redis: Redis) -> None:
        for one in writes:
            await one(redis)

    return write


def _raw(job: bytes | str) -> bytes:
    return job if isinstance(job, bytes) else job.encode()


FOREIGN = {
    "an id that is not UTF-8": pending(b"caf\xe9", bytes="1"),
    "an id with a line break": pending("one\ntwo"),
    "an id of a kilobyte": pending("x" * 1024),
    "a job that is a string": both(command("SET", KEYS.job("s"), "text"), pending("s")),
    "a job whose size is a word": pending("w", bytes="many", texts="1"),
    "a job with half a try": pending("h", bytes="1", tries="0.5"),
    "a job with an endless number": pending("e", bytes="9" * 30),
    "a request that is a list": both(command("RPUSH", KEYS.request("l"), "text"), pending("l", bytes="1")),
    "a lease of a job that is a string": both(
        command("SET", KEYS.job("t"), "text"), command(ZADD, KEYS.leases, 1, "t")
    ),
    "a lease with tries that are a word": both(
        command("HSET", KEYS.job("u"), "token", "gone:1:1", "tries", "two"),
        command(ZADD, KEYS.leases, 1, "u"),
    ),
    "a counter that is a word": command("HSET", KEYS.totals, "bytes", "many", "done", "several"),
    "a dead letter that is a string": both(
        command("SET", KEYS.dead_letter("d"), "text"), command(ZADD, KEYS.dead_letters, 1, "d")
    ),
}


@pytest.mark.parametrize("write", FOREIGN.values(), ids=FOREIGN)
async def test_a_foreign_entry_stops_nobody(
    write: Callable[[Redis], Awaitable[None]], url: str, redis: Redis
) -> None:
    """Jobs before and behind it are answered, nothing of it stays on the queue, and the queue can be read."""
    async with worker(url), Client(url, model=MODEL, run="others") as client:
        assert (await client.embed(["before"])).ok
        await write(redis)
        answers = await asyncio.gather(*(client.embed([f"behind {n}"], timeout_s=10) for n in range(3)))
        assert all(reply.ok for reply in answers)
        await until_empty(redis)
        assert await client.cancel_run("others") is not None
        assert all(letter.code for letter in await client.dead_letters() if letter.job != "d")
    assert (await read_queue(redis, KEYS)).pending == 0


async def until_empty(redis: Redis) -> None:
    for _ in range(500):
        if await redis.zcard(KEYS.pending) + await redis.zcard(KEYS.leases) == 0:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(await redis.zrange(KEYS.pending, 0, -1))


async def test_who_asks_for_a_malformed_job_is_told(url: str, redis: Redis) -> None:
    """And it is kept as a dead letter, which can be dropped."""
    async with worker(url), Client(url, model=MODEL) as client:
        await FOREIGN["a job whose size is a word"](redis)
        with pytest.raises(JobFailed) as failed:
            await client.result("w", timeout_s=10)
        assert failed.value.worker_code == "malformed_job"
        [letter] = await client.dead_letters()
        assert (letter.job, letter.code) == ("w", "malformed_job")
        assert await client.drop("w")
        await FOREIGN["an id that is not UTF-8"](redis)
        await until_empty(redis)
        [letter] = await client.dead_letters()
        assert letter.job.startswith("malformed-")
        assert await client.drop(letter.job)


async def test_a_foreign_message_is_ignored(url: str, redis: Redis) -> None:
    """The listeners of the worker and of its clients go on."""
    async with worker(url), Client(url, model=MODEL) as client:
        assert (await client.embed(["before"])).ok
        before = listeners()
        for channel in await redis.pubsub_channels(f"{KEYS.root}*"):
            for message in (b"\xff", b"-\xff", b"=\xff", b"", b"+", b"=", b"x" * 100_000):
                assert await redis.publish(channel.decode(), message) == 1
        assert (await client.embed(["behind"], timeout_s=10)).ok
        assert listeners() == before


def listeners() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("listener")}


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), float(sys.maxsize), True, "60"])
def test_how_long_answers_are_kept_has_bounds(seconds: Any, server: EmbeddedServer) -> None:
    """What Redis cannot count is refused where it is said."""
    with pytest.raises(InvalidOption, match="keep_result_s"):
        Client(server.url, model=MODEL, keep_result_s=seconds)


@pytest.mark.parametrize("value", [0, -1, 1.5, 2**60, True])
@pytest.mark.parametrize("name", ["max_jobs", "max_bytes"])
def test_a_queue_s_limits_have_bounds(name: str, value: Any) -> None:
    """Whole numbers that Lua computes with exactly."""
    with pytest.raises(InvalidOption, match=name):
        QueueLimits(**{name: value})


@pytest.mark.parametrize("job", ["", "two words", "caf\xe9", "line\n", "x" * 257])
async def test_a_job_s_name_is_printable(job: str, url: str) -> None:
    """As a foreign one would have to be."""
    async with Client(url, model=MODEL) as client:
        with pytest.raises(InvalidOption, match="not a valid id"):
            await client.submit(["text"], job=job)
