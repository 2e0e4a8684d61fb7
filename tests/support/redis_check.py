"""Checks what our transport takes for granted of the redis-py that is installed.

    python -W error -m support.redis_check URL

Needs only what a producer installs, and a server at the URL.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError

from producer.errors import QueueUnavailable
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import connect, redis_errors, subscribed
from producer.transport.redis_internals import is_quiet, split_code
from producer.transport.retry import OutageBudget


async def check(url: str) -> None:
    """Raises AssertionError, or whatever redis-py raises, if something is not as we need it."""
    for form in ("redis://{}/0", "rediss://{}/0", "redis+sentinel://{}/main/0"):
        assert "hunter2" not in repr(connect(form.format("user:hunter2@localhost")))
    async with asyncio.timeout(20):
        await check_quiet(url)
        await check_greeting(url)
        await check_pipeline(url)
        await check_subscription(url)
        await check_redirect()
        await check_codes()
        await check_refused()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def check_quiet(url: str) -> None:
    """An idle connection is quiet until something arrives, or its end; a pool mends one that is not."""
    async with connect(url) as redis:
        pool = redis.connection_pool
        connection: Any = await pool.get_connection()
        assert is_quiet(connection)
        await connection.send_command("CLIENT", "ID")
        await until(lambda: not is_quiet(connection))
        number = await connection.read_response()
        assert is_quiet(connection)
        await redis.execute_command("CLIENT", "KILL", "ID", number)
        await until(lambda: not is_quiet(connection))
        await pool.release(connection)
        again: Any = await pool.get_connection()
        assert again is connection, "an idle connection is used again"
        assert is_quiet(again)
        await again.disconnect()
        assert not is_quiet(again)
        await pool.release(again)
        assert await redis.ping()


async def check_greeting(url: str) -> None:
    """A connection says nothing of itself, and speaks RESP 2."""
    async with connect(url) as redis:
        before = await redis.info("commandstats")
        number = await redis.client_id()
        row = next(row for row in await redis.client_list() if int(row["id"]) == number)
        assert not row.get("lib-name"), row
        assert row.get("resp", "2") == "2", row
        async with connect(url) as other:
            await other.ping()
        after = await redis.info("commandstats")
    for command in ("cmdstat_hello", "cmdstat_client|setinfo"):
        assert before.get(command) == after.get(command), command


async def check_pipeline(url: str) -> None:
    """Replies in order, an error where one was refused; a lost connection is made again."""
    async with connect(url) as redis:
        pipeline = AutoPipeline(redis)
        assert await pipeline.send(("PING",), ("ECHO", "a")) == [b"PONG", b"a"]
        results = await asyncio.gather(
            pipeline.send(("PING",)), pipeline.send(("NONSENSE",)), return_exceptions=True
        )
        assert results[0] == [b"PONG"]
        assert isinstance(results[1], ResponseError)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
        assert await pipeline.send(("PING",)) == [b"PONG"]


async def check_subscription(url: str) -> None:
    """A listener hears what is published, also after its connection was lost."""
    heard: list[bytes] = []
    async with connect(url) as redis, subscribed(redis, "redis-check", heard.append):
        await redis.publish("redis-check", "one")
        await until(lambda: heard == [b"one"])
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        while heard[-1] != b"two":
            await redis.publish("redis-check", "two")
            await asyncio.sleep(0.01)


async def check_redirect() -> None:
    """Whatever a node answers to every command, the next one that it names is asked."""
    async with scripted(b"+PONG\r\n") as target:
        moved = f"-MOVED 7 127.0.0.1:{target}\r\n".encode()
        async with scripted(moved) as source, connect(f"redis://127.0.0.1:{source}") as redis:
            assert await redis.ping()
            assert await AutoPipeline(redis).send(("PING",)) == [b"PONG"]


@asynccontextmanager
async def scripted(reply: bytes) -> AsyncIterator[int]:
    """The port of a server that has one reply for everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while commands := await reader.read(4096):
            writer.write(reply * commands.count(b"*"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()


async def check_codes() -> None:
    """The codes that redirect us are told apart, whether redis-py has a class for them or not."""
    for line in (
        "MOVED 1 host:2",
        "ASK 1 host:2",
        "TRYAGAIN later",
        "CLUSTERDOWN no slots",
        "MASTERDOWN no link",
        "OTHER words",
    ):
        async with scripted(f"-{line}\r\n".encode()) as port:
            assert split_code(await error_at(port)) == tuple(line.split(" ", 1))


async def error_at(port: int) -> ResponseError:
    """The error of redis-py's own client at a server that refuses everything."""
    async with Redis(port=port, protocol=2) as redis:
        try:
            await redis.execute_command("ANYTHING")
        except ResponseError as error:
            return error
    raise AssertionError("it did not refuse")


async def check_refused() -> None:
    """Nobody listens: one error of ours, at once."""
    url = "redis://127.0.0.1:1"
    async with connect(url, outage_budget=OutageBudget(0)) as redis:
        try:
            with redis_errors(url):
                await redis.ping()
        except QueueUnavailable as error:
            refused = error
        else:
            raise AssertionError("somebody listens on port 1")
    assert isinstance(refused.__cause__, ConnectionError), repr(refused.__cause__)


if __name__ == "__main__":
    asyncio.run(check(sys.argv[1]))
    sys.stdout.write(f"redis-py {version('redis')}\n")
