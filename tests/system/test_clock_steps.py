"""The server's clock steps by a minute, or a failover lands on another clock: no job is lost or run twice."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hget
from support.redis_server import SERVERS
from support.serving import MODEL, worker
from support.stepped_server import SteppedServer, find_libfaketime

from producer import Client
from producer.contract import EmbedOptions, Keys, build_request, queue_name
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from producer.transport.connect import connect
from worker.consumer.leases import JobResult, Leases

KEYS = Keys(queue_name(MODEL))
LIBRARY = find_libfaketime()
PROGRAM = SERVERS["valkey"]() or ""  # Debian's Redis does not start with libfaketime
STEPS = (60, -60)

pytestmark = pytest.mark.skipif(not (LIBRARY and PROGRAM), reason="no libfaketime or no Valkey")


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[SteppedServer]:
    assert LIBRARY is not None
    with SteppedServer(PROGRAM, tmp_path, LIBRARY) as server:
        yield server


async def server_ms(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def submitted(redis: Redis, text: str, **terms: str) -> str:
    prepared = prepare_job(build_request(MODEL, [text], EmbedOptions()))
    await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=600, **terms)  # type: ignore[arg-type]
    return prepared.job


@pytest.mark.slow
@pytest.mark.parametrize("step_s", STEPS)
async def test_a_live_worker_keeps_its_leases(stepped: SteppedServer, step_s: int) -> None:
    """Though another one looks for work all the time; and every later job is answered as ever."""
    slow = {"delay_s": 1.5}
    async with (
        Client(stepped.url, model=MODEL) as client,
        worker(stepped.url, backend=slow, lease_s=1.0),
        worker(stepped.url, backend=slow, lease_s=1.0),
    ):
        running = [asyncio.create_task(client.embed([f"text {n}"], timeout_s=20)) for n in range(4)]
        await asyncio.sleep(0.7)
        stepped.step(step_s)
        assert all(reply.ok for reply in await asyncio.gather(*running))
        assert (await client.embed(["later"], timeout_s=20)).ok
        async with connect(stepped.url) as redis:
            assert abs(await server_ms(redis) / 1000 - time.time() - step_s) < 5
            assert await hget(redis, KEYS.totals, "lost_leases") is None
            assert await hget(redis, KEYS.totals, "done") == b"5"


@pytest.mark.slow
@pytest.mark.parametrize("step_s", STEPS)
async def test_the_jobs_of_a_dead_worker_come_back_as_soon(stepped: SteppedServer, step_s: int) -> None:
    """Its lease ends neither at once nor a minute later: after three leases at most."""
    async with connect(stepped.url) as redis, Client(stepped.url, model=MODEL) as client:
        dead = Leases(redis, KEYS, worker="dead", lease_s=1.0)
        job = await submitted(redis, "text")
        claimed = await dead.claim(1, 1 << 30)
        await dead.renew(redis, [claim for claim, _ in claimed])
        stepped.step(step_s)
        started_s = time.monotonic()
        async with worker(stepped.url, lease_s=1.0):
            assert (await client.result(job, timeout_s=20)).ok
        assert time.monotonic() - started_s < 8
        assert not await dead.finish(claimed[0][0], JobResult(b"late"))


@pytest.mark.parametrize("step_s", STEPS)
async def test_pending_jobs_keep_their_order(stepped: SteppedServer, step_s: int) -> None:
    """Those that were there before, by priority; and none waits for the old time to come again."""
    async with connect(stepped.url) as redis:
        order = ["high", "high", "normal", "normal", "low"]
        jobs = [await submitted(redis, f"{n}", priority=priority) for n, priority in enumerate(order)]
        stepped.step(step_s)
        claimed = await Leases(redis, KEYS, worker="w", lease_s=30).claim(10, 1 << 30)
        assert [claim.job for claim, _ in claimed] == jobs
        assert all(claim.waited_s >= 0 for claim, _ in claimed)


@pytest.mark.parametrize("step_s", STEPS)
async def test_answers_outlive_the_step(stepped: SteppedServer, step_s: int) -> None:
    """Those kept for longer than it; a step forward shortens their time by as much."""
    async with Client(stepped.url, model=MODEL) as client, connect(stepped.url) as redis:
        async with worker(stepped.url):
            job = (await client.submit(["text"])).job
            await client.result(job)
            stepped.step(step_s)
            assert (await client.result(job)).ok
            assert (await client.embed(["text"])).ok
        assert abs(await redis.ttl(KEYS.result(job)) - 600 + max(step_s, 0)) <= 60 + 5


@pytest.mark.slow
@pytest.mark.parametrize("step_s", STEPS)
async def test_a_failover_to_another_clock(stepped: SteppedServer, tmp_path: Path, step_s: int) -> None:
    """The replica's clock is a minute off: the owner of a lease keeps it there; nobody else gets the job."""
    assert LIBRARY is not None
    replica = SteppedServer(PROGRAM, tmp_path / "replica", LIBRARY)
    replica.step(step_s)
    async with connect(stepped.url) as old:
        owner = Leases(old, KEYS, worker="owner", lease_s=2.0)
        job = await submitted(old, "text")
        [(claim, _)] = await owner.claim(1, 1 << 30)
        await owner.renew(old, [claim])
        with replica:
            replica.client().replicaof("127.0.0.1", str(stepped.port))
            async with connect(replica.url) as new:
                async with asyncio.timeout(10):
                    while not await new.exists(KEYS.job(job)):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                await owner.renew(old, [claim])
                stepped.kill()
                await new.execute_command("REPLICAOF", "NO", "ONE")
                other = Leases(new, KEYS, worker="other", lease_s=2.0)
                owner = Leases(new, KEYS, worker="owner", lease_s=2.0)
                assert await other.claim(1, 1 << 30) == []
                assert (await owner.renew(new, [claim])).lost == set()
                assert (
                    abs(float(await new.zscore(KEYS.leases, job) or 0) - await server_ms(new) - 2000) < 1000
                )
                assert await owner.finish(claim, JobResult(b"answer"))
