"""The heartbeat keeps leases while the event loop is busy, gives them up when it hangs, and ends in order."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from redis.asyncio import Redis

from producer.contract import EmbedOptions, Keys, build_request
from producer.embedded.services import EmbeddedServer
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from producer.transport.connect import connect
from producer.transport.retry import OutageBudget
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.leases import Claim, Leases

pytestmark = pytest.mark.every_server

LEASE_S = 0.6


async def claimed(redis: Redis, keys: Keys, leases: Leases) -> Claim:
    prepared = prepare_job(build_request("m", ["a text"], EmbedOptions()))
    await submit(redis, keys, prepared, limits=QueueLimits(), keep_result_s=60)
    [(claim, _)] = await leases.claim(1, 1 << 30)
    return claim


def beating(
    leases: Leases,
    url: str,
    *,
    on_death: Callable[[BaseException], None] = lambda _: None,
    hung: bool = False,
) -> Heartbeat:
    redis = connect(url, timeout_s=1.0, outage_budget=OutageBudget(0))
    return Heartbeat(
        leases, redis, lease_s=LEASE_S, on_lost=lambda _: None, on_death=on_death, hung=lambda: hung
    )


def in_background(action: Callable[[], object]) -> None:
    """Do it in another thread, with this one's event loop standing still."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


@pytest.mark.parametrize("hangs", [False, True], ids=["busy", "hung"])
async def test_a_blocked_loop_keeps_its_leases_for_a_while(
    redis: Redis, keys: Keys, server: EmbeddedServer, hangs: bool
) -> None:
    """For longer than they last, but not once the worker counts as hung."""
    owner, other = (Leases(redis, keys, worker=name, lease_s=LEASE_S) for name in "ab")
    claim = await claimed(redis, keys, owner)
    with closing(beating(owner, server.url, hung=hangs)) as heartbeat:
        heartbeat.hold(claim)
        in_background(lambda: asyncio.run(stay_alive(server.url, keys, 3 * LEASE_S)))
        assert bool(await other.claim(1, 1 << 30)) is hangs


async def stay_alive(url: str, keys: Keys, seconds: float) -> None:
    """Be a worker that is heard, without which no lease is taken from another."""
    async with connect(url) as redis:
        other = Leases(redis, keys, worker="b", lease_s=LEASE_S)
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            await other.renew(redis, [])
            await asyncio.sleep(0.05)


async def test_closing_takes_back_the_sign_of_life(redis: Redis, keys: Keys, server: EmbeddedServer) -> None:
    """And ends the thread and its connection."""
    num_clients = len(await redis.client_list())
    with closing(beating(Leases(redis, keys, worker="a", lease_s=LEASE_S), server.url)):
        async with asyncio.timeout(10):
            while not await redis.zcard(keys.workers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert await redis.zcard(keys.workers) == 0
    assert len(await redis.client_list()) == num_clients
    assert "embedmill-heartbeat" not in {thread.name for thread in threading.enumerate()}


async def test_closing_does_not_wait_for_a_silent_redis(redis: Redis, keys: Keys) -> None:
    """Longer than for a beat that is on its way and its own last words."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        heartbeat = beating(Leases(redis, keys, worker="a", lease_s=LEASE_S), url)
        await asyncio.sleep(0.1)
        started_s = time.monotonic()
        heartbeat.close()
        assert time.monotonic() - started_s < 4


async def test_its_death_is_told(redis: Redis, keys: Keys, server: EmbeddedServer) -> None:
    """Whatever it was: without it leases would expire unnoticed."""
    died: list[BaseException] = []

    def describe() -> bytes:
        raise KeyError("a bug")

    leases = Leases(redis, keys, worker="a", lease_s=LEASE_S, describe=describe)
    with closing(beating(leases, server.url, on_death=died.append)):
        await asyncio.sleep(0.5)
    assert [type(error) for error in died] == [KeyError]
