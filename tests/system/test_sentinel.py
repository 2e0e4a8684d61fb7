"""Redis behind sentinels: the primary dies while jobs flow, and every job is answered."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.redis_server import RedisServer
from support.serving import MODEL, producer, worker
from support.text_bytes import text_bytes_now

from producer import Client
from producer.contract import Keys, queue_name
from producer.errors import QueueUnavailable
from producer.transport.connect import connect, redis_errors
from producer.transport.retry import OutageBudget

pytestmark = pytest.mark.every_server

log = logging.getLogger(__name__)

KEYS = Keys(queue_name(MODEL))
SERVICE = "main"
DOWN_AFTER_MS = 500


class Sentinels:
    """A primary, its replica, and three sentinels, each with a password."""

    def __init__(self, program: str, directory: Path, on_exit: ExitStack) -> None:
        secret: dict[str, Any] = {"requirepass": "data", "masterauth": "data"}
        self.primary = on_exit.enter_context(RedisServer(program, directory / "primary", **secret))
        replica_of = {"replicaof": f"127.0.0.1 {self.primary.port}"}
        lines = tuple(f"{name} {value}" for name, value in replica_of.items())
        self.replica = on_exit.enter_context(
            RedisServer(program, directory / "replica", lines=lines, **secret)
        )
        watched = (
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} 2",
            f"sentinel auth-pass {SERVICE} data",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 5000",
            "requirepass watch",
        )
        self.sentinels = [
            on_exit.enter_context(
                RedisServer(program, directory / f"sentinel{number}", "--sentinel", lines=watched)
            )
            for number in range(3)
        ]
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        self.url = f"redis+sentinel://:data@{hosts}/{SERVICE}/0?sentinel_password=watch"

    def wait_until_they_agree(self) -> None:
        """Each sentinel knows the others and the replica, which has all data."""
        deadline = time.monotonic() + 90
        while not all(self._sees_all(one) for one in self.sentinels):
            assert time.monotonic() < deadline, self.sentinels[0].log.read_text()[-3000:]
            time.sleep(0.1)

    def has_failed_over(self) -> bool:
        """The replica is the primary now, and what was the primary follows it."""
        roles = []
        for one in (self.replica, self.primary):
            with Redis(port=one.port, password="data") as client:
                roles.append(client.role()[0])
        return roles == [b"master", b"slave"]

    def _sees_all(self, sentinel: RedisServer) -> bool:
        with Redis(port=sentinel.port, password="watch", decode_responses=True) as client:
            state = client.sentinel_master(SERVICE)
            replicas = client.sentinel_slaves(SERVICE)
        linked = any(one["master-link-status"] == "ok" for one in replicas)
        return state["num-other-sentinels"] == 2 and linked


@pytest.fixture
def sentinels(program: str, tmp_path: Path) -> Iterator[Sentinels]:
    with ExitStack() as on_exit:
        running = Sentinels(program, tmp_path, on_exit)
        running.wait_until_they_agree()
        yield running


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_job_survives_a_failover(
    sentinels: Sentinels, record_property: Callable[[str, object], None]
) -> None:
    """The primary is killed under load; producers and workers find the new one by themselves."""
    answered: list[float] = []
    async with Client(sentinels.url, model=MODEL) as client, worker(sentinels.url, max_tries=1):

        async def embed(number: int) -> None:
            assert (await client.embed([f"text {number}"], timeout_s=120)).ok
            answered.append(time.monotonic())

        numbers = iter(range(100_000))
        stop_s = time.monotonic() + 12

        async def produce() -> None:
            for number in numbers:
                await embed(number)
                if time.monotonic() > stop_s:
                    return

        load = asyncio.gather(*(produce() for _ in range(8)))
        await asyncio.sleep(2)
        killed_s = time.monotonic()
        sentinels.primary.kill()
        await load
    gap_s = max(after - before for before, after in pairwise(answered))
    record_property("gap_s", gap_s)
    log.warning("failover gap_s=%.2f jobs=%d", gap_s, len(answered))
    assert answered[-1] > killed_s + 5
    with Redis(port=sentinels.replica.port, password="data", decode_responses=True) as replica:
        assert replica.role()[0] == "master"
        assert text_bytes_now(replica, KEYS) == 0
        assert replica.hget(KEYS.totals, "failed") is None


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_demoted_primary_is_left(sentinels: Sentinels) -> None:
    """Connections that stay open to it meet READONLY; nothing fails, they go to the new one."""
    async with Client(sentinels.url, model=MODEL) as client, worker(sentinels.url, max_tries=1):
        assert (await client.embed(["before"])).ok
        async with connect(sentinels.url) as redis:
            assert await redis.ping()
            with Redis(port=sentinels.sentinels[0].port, password="watch") as sentinel:
                sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
            num_after = 0
            for number in itertools.count():
                assert (await client.embed([f"text {number}"], timeout_s=120)).ok
                assert await redis.set(KEYS.worker("x"), "1", px=1)
                await asyncio.sleep(0.05)
                num_after += await asyncio.to_thread(sentinels.has_failed_over)
                if num_after == 20:
                    break


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_one_sentinel_is_enough_and_the_commands_know_the_form(sentinels: Sentinels) -> None:
    """Two of three are gone; the rights of docs/reference/redis-keys.md are enough to be told."""
    *gone, left = sentinels.sentinels
    for one in gone:
        one.kill()
    with Redis(port=left.port, password="watch") as sentinel:
        rights = ("+ping", "+sentinel|masters")
        sentinel.execute_command("ACL", "SETUSER", "watcher", "on", ">look", *rights)
    url = sentinels.url.replace("sentinel_password=watch", "sentinel_username=watcher&sentinel_password=look")
    async with worker(url):
        status, output, errors = await producer("status", "--json", redis_url=url)
    assert (status, errors) == (0, "")
    assert queue_name(MODEL) in output


async def test_no_primary_of_that_name_is_said() -> None:
    """As one sentence, without a password, whether sentinels are absent or know nothing of it."""
    url = "redis+sentinel://u:hunter2@127.0.0.1:1,127.0.0.1:2/main?sentinel_password=hunter2"
    async with connect(url, outage_budget=OutageBudget(0)) as redis:
        with pytest.raises(QueueUnavailable, match="no reachable sentinel") as refused, redis_errors(url):
            await redis.ping()
    assert "hunter2" not in str(refused.value) + repr(refused.value.__cause__)
    assert "127.0.0.1:1,127.0.0.1:2/main" in str(refused.value)
