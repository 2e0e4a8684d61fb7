"""A Redis user with the rights of docs/reference/redis-keys.md can do everything, and nothing else."""

import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from support.paths import ROOT
from support.redis_hashes import hset
from support.serving import MODEL, producer, worker

from producer import Client
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed, QueueUnavailable
from producer.transport.connect import connect
from producer.transport.retry import OutageBudget

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
PAGE = ROOT / "docs" / "reference" / "redis-keys.md"


def rule() -> list[str]:
    """The ACL SETUSER command of the page."""
    found = re.search(r"^ACL SETUSER (.+?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1].replace("\\\n", " ").split()


@pytest.fixture
async def url(redis: Redis, server: EmbeddedServer) -> AsyncIterator[str]:
    """The server's address for the user of the page."""
    name, *rights = rule()
    await redis.execute_command("ACL", "SETUSER", name, *rights)
    yield f"unix://{name}:secret@{urlsplit(server.url).path}"
    await redis.execute_command("ACL", "DELUSER", name)


async def test_the_rights_are_enough(url: str, redis: Redis) -> None:
    """To embed, to fetch, to wait, to fail, to cancel, to be given up, to be requeued, and to look."""
    async with Client(url, model=MODEL) as client:
        given_up = (await client.submit(["given up"])).job
        await hset(redis, KEYS.job(given_up), "tries", 3)
        cancelled = (await client.submit(["cancelled"])).job
        assert await client.cancel(cancelled)
        async with Client(url, model=MODEL, run="mine") as mine:
            await mine.submit(["of a run"])
            assert (await client.cancel_run("mine")).num_ended == 1
            assert not (await client.submit(["of a run"])).joined
        async with worker(url, lease_s=0.6):
            assert (await client.embed(["a text", 7])).vectors.shape == (2, 384)
            kept = (await client.submit(["kept"])).job
            assert (await client.result(kept, timeout_s=10)).ok
            assert (await client.result(kept, consume=True)).ok
            with pytest.raises(JobFailed):
                await client.result(given_up, timeout_s=10)
            assert await client.num_workers() == 1
            _, request = await client.dead_letter(given_up)
            assert request is not None
            assert await client.requeue(given_up)
            assert (await client.result(given_up, timeout_s=10)).ok
            assert not await client.drop(given_up)
            assert (await producer("status", redis_url=url))[0] == 0
    denied = await redis.execute_command("ACL", "LOG")
    assert denied == []


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "foreign"),
        ("SET", "foreign", "1"),
        ("EVAL", "return redis.call('GET', 'foreign')", "0"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"),
        ("PUBLISH", "foreign", "1"),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "WHOAMI"),
        ("CLIENT", "LIST"),
        ("SHUTDOWN",),
        ("MONITOR",),
    ],
)
async def test_the_rights_are_no_more(url: str, redis: Redis, command: tuple[str, ...]) -> None:
    """Neither other keys nor commands that touch the server, inside a script or outside."""
    async with connect(url, outage_budget=OutageBudget(0)) as user:
        with pytest.raises(ResponseError, match=r"permissions|ACL failure|user executing the script can't"):
            await user.execute_command(*command)
        assert await user.set(KEYS.totals, "ours")
    await redis.execute_command("ACL", "LOG", "RESET")


async def test_a_wrong_password_is_said_without_it(url: str) -> None:
    """QueueUnavailable with the address, never with what was tried."""
    with pytest.raises(QueueUnavailable, match="invalid username-password") as refused:
        async with Client(url.replace("secret", "hunter2"), model=MODEL):
            pass
    assert "hunter2" not in str(refused.value)
