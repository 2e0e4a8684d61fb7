"""Redis in trouble, and jobs on it: out of memory, read-only, silent, slow, loading, refusing, away."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError
from support.network import Proxy
from support.redis_server import RedisServer
from support.serving import MODEL, producer, worker
from support.text_bytes import text_bytes_now
from support.worker_process import process

from producer import Client
from producer.contract import EmbedOptions, Keys, build_request, queue_name
from producer.errors import JobFailed, QueueFull, QueueUnavailable
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from producer.transport.connect import connect, redis_errors, subscribed
from producer.transport.retry import OutageBudget
from worker.consumer.leases import Leases

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
TEXTS = [f"text {number}" for number in range(20)]


@pytest.fixture
def server(program: str, tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(program, tmp_path / "server", appendonly="yes", appendfsync="always") as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


async def until(happened: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(happened):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def counts(server: RedisServer) -> dict[str, str]:
    with server.client() as redis:
        totals: Any = redis.hgetall(KEYS.totals)
        totals["bytes"] = str(text_bytes_now(redis, KEYS))
    totals.pop("heard", None)
    return dict(totals)


async def test_a_full_memory_is_told_and_waited_for(server: RedisServer) -> None:
    """As QueueFull with a hint; without a word of the texts; who may wait goes on when there is room."""
    async with Client(server.url, model=MODEL) as client, worker(server.url):
        with server.client() as redis:
            redis.config_set("maxmemory", 1)
            with pytest.raises(QueueFull, match="maxmemory") as full:
                await client.submit(["a secret text"])
            assert full.value.retry_after_s > 0
            assert "secret" not in str(full.value) + repr(full.value.__cause__)
            waiting = asyncio.create_task(client.embed(["a text"]))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            redis.config_set("maxmemory", 0)
        assert (await asyncio.wait_for(waiting, 20)).ok


async def test_an_answer_waits_for_memory_and_burns_no_try(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Claimed and renewed without memory, the answer kept by the worker until Redis takes it."""
    caplog.set_level("WARNING")  # whatever a command has set before
    async with Client(server.url, model=MODEL) as client:
        jobs = [(await client.submit([text])).job for text in TEXTS[:3]]
        with server.client() as redis:
            redis.config_set("maxmemory", 1)
            async with worker(server.url, lease_s=0.6):
                await until(lambda: "not_written_yet" in caplog.text)
                await asyncio.sleep(2.5)  # four leases
                assert redis.zcard(KEYS.leases) == 3
                assert {redis.hget(KEYS.job(job), "tries") for job in jobs} == {"1"}
                redis.config_set("maxmemory", 0)
                for job in jobs:
                    assert (await client.result(job, timeout_s=10)).ok
    assert counts(server) == {"bytes": "0", "done": "3"}
    assert "text" not in caplog.text.replace("texts", "")


async def test_a_replica_is_left_for_the_primary(server: RedisServer, program: str, tmp_path: Path) -> None:
    """READONLY is met where a name now stands for another server: what connects again gets through."""
    with RedisServer(program, tmp_path / "other") as other:
        async with Client(server.url, model=MODEL) as client, worker(server.url, lease_s=0.6):
            assert (await client.embed(["before"])).ok
            with server.client() as redis:
                redis.replicaof("127.0.0.1", other.port)
                waiting = asyncio.create_task(client.embed(["during"]))
                await asyncio.sleep(2.0)
                assert not waiting.done()
                redis.replicaof("NO", "ONE")
            assert (await asyncio.wait_for(waiting, 20)).ok
    with server.client() as redis:
        redis.replicaof("127.0.0.1", other.port)
    async with connect(server.url, outage_budget=OutageBudget(0)) as redis:
        with pytest.raises(QueueUnavailable, match="READONLY"), redis_errors(server.url):
            await redis.set("key", "value")


async def test_a_silent_network_is_left_and_answers_stay_single(server: RedisServer, proxy: Proxy) -> None:
    """A worker behind it loses its leases; what it computed is refused, another one's answer counts."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text"])).job
        slow = worker(proxy.url, backend={"delay_s": 2.0}, lease_s=0.6)
        async with slow:
            await until(lambda: server.client().zcard(KEYS.leases) == 1)
            proxy.black_hole = True
            async with worker(server.url, lease_s=0.6):
                assert (await client.result(job, timeout_s=15)).ok
            answer: Any = server.client().ttl(KEYS.result(job))
            proxy.black_hole = False
            proxy.cut()
            assert (await client.embed(["another"], timeout_s=30)).ok
            later: Any = server.client().ttl(KEYS.result(job))
            assert 0 < later <= answer
    assert counts(server)["done"] == "2"
    assert counts(server)["lost_leases"] == "1"


async def test_a_silent_server_ends_in_an_error_and_is_found_again(proxy: Proxy) -> None:
    """After the timeout, and not seven times that."""
    proxy.black_hole = True
    started_s = time.monotonic()
    async with connect(proxy.url, timeout_s=1.0, outage_budget=OutageBudget(0.5)) as redis:
        with pytest.raises(QueueUnavailable, match="Timeout"), redis_errors(proxy.url):
            await redis.ping()
        assert time.monotonic() - started_s < 6
        proxy.black_hole = False
        proxy.cut()
        assert await redis.ping()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_subscription_nobody_serves_is_made_again(proxy: Proxy) -> None:
    """A listener has nothing to send that would fail; it notices that health checks are not answered."""
    heard: list[bytes] = []
    async with connect(proxy.url) as redis, subscribed(redis, "channel", heard.append):
        await redis.publish("channel", "one")
        await until(lambda: heard == [b"one"])
        proxy.forget()
        async with asyncio.timeout(90):
            while heard[-1] != b"two":
                await asyncio.sleep(0.5)
                with suppress(RedisError, OSError):
                    await redis.publish("channel", "two")


async def test_cut_connections_are_made_again(server: RedisServer, proxy: Proxy) -> None:
    """In the middle of everything: each job is answered, and none is taken for dead."""
    async with Client(proxy.url, model=MODEL) as client, worker(proxy.url, lease_s=0.6):
        answers = asyncio.gather(*(client.embed([text], timeout_s=40) for text in TEXTS))
        for _ in range(10):
            await asyncio.sleep(0.1)
            proxy.cut()
        assert all(reply.ok for reply in await answers)
    assert counts(server)["bytes"] == "0"
    assert "failed" not in counts(server)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_slow_server_slows_and_breaks_nothing(server: RedisServer, proxy: Proxy) -> None:
    """Half a second a reply: no lease is lost."""
    proxy.delay_s = 0.5
    async with Client(proxy.url, model=MODEL) as client, worker(proxy.url):
        answers = await asyncio.gather(*(client.embed([text], timeout_s=150) for text in TEXTS))
    assert all(reply.ok for reply in answers)
    assert counts(server) == {"bytes": "0", "done": str(len(TEXTS))}


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_outages_end_no_job_as_exhausted(server: RedisServer) -> None:
    """Killed five times for longer than leases last, then frozen for half a minute: no try is burned."""
    backend = {"delay_s": 0.3, "max_batch_tokens": 16, "max_text_tokens": 16}
    settings = {"lease_s": 1.5, "max_tries": 1}
    async with (
        Client(server.url, model=MODEL) as client,
        worker(server.url, backend=backend, **settings),
        worker(server.url, backend=backend, **settings),
    ):
        jobs = [(await client.submit([f"text {number}"])).job for number in range(60)]
        for _ in range(5):
            await asyncio.sleep(0.7)
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(3.0)
            await asyncio.to_thread(server.start)
        server.pause()
        await asyncio.sleep(30)
        server.go_on()
        for job in jobs:
            assert (await client.result(job, timeout_s=150)).ok
    seen = counts(server)
    assert (seen["done"], seen["bytes"]) == ("60", "0")
    assert "failed" not in seen
    assert "lost_leases" not in seen


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_server_that_loads_its_data_is_waited_for(program: str, tmp_path: Path) -> None:
    """LOADING is an outage like any other."""
    with RedisServer(program, tmp_path / "one", appendonly="yes", key_load_delay="20") as server:
        async with Client(server.url, model=MODEL) as client:
            with server.client() as redis, redis.pipeline(transaction=False) as pipe:
                for number in range(40_000):
                    pipe.set(f"key{number}", "x" * 100)
                pipe.execute()
            server.kill()
            server.start(wait=False)
            await until(lambda: b"Ready to accept" not in server.log.read_bytes().rpartition(b"starting")[2])
            async with worker(server.url):
                assert (await client.embed(["a text"], timeout_s=150)).ok


async def test_refusals_are_said_and_not_waited_for(server: RedisServer) -> None:
    """A wrong password and a missing right: at once, with the address, without what was tried."""
    with server.client() as redis:
        redis.execute_command("ACL", "SETUSER", "user", "on", ">hunter2", "+ping", "+client")
    for password, reason in (("hunter3", "invalid username-password"), ("hunter2", "no permissions|NOPERM")):
        url = server.url.replace("//", f"//user:{password}@")
        started_s = time.monotonic()
        with pytest.raises(QueueUnavailable, match=f"refuses the connection: .*({reason})") as refused:
            async with Client(url, model=MODEL, outage_s=50) as client:
                await client.submit(["a text"])
        assert time.monotonic() - started_s < 25
        assert "hunter" not in str(refused.value) + repr(refused.value.__cause__)


async def test_no_process_prints_a_password(server: RedisServer, tmp_path: Path) -> None:
    """Neither commands nor workers, whether they serve with it or are refused."""
    with server.client() as redis:
        redis.execute_command("ACL", "SETUSER", "user", "on", ">hunter2", "~*", "&*", "+@all")
    right, wrong = (server.url.replace("//", f"//user:{password}@") for password in ("hunter2", "hunter3"))
    with process(tmp_path / "log", right, log_level="DEBUG") as running:
        shown = [await producer("status", redis_url=url) for url in (right, wrong)]
        running.terminate()
        await asyncio.to_thread(running.wait)
    env = {
        **os.environ,
        "EMBEDMILL_REDIS_URL": wrong,
        "EMBEDMILL_MODEL": MODEL,
        "EMBEDMILL_LOG_LEVEL": "DEBUG",
    }
    command = [sys.executable, "-m", "worker", "run"]
    refused = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "refuses the connection" in refused.stderr
    assert "hunter" not in str(shown) + (tmp_path / "log").read_text() + refused.stdout + refused.stderr


async def test_an_outage_longer_than_asked_for_is_an_error(server: RedisServer) -> None:
    """For every caller at once, not for one after the other."""
    async with Client(server.url, model=MODEL, outage_s=1.0) as client:
        server.kill()
        started_s = time.monotonic()
        async with asyncio.timeout(20):
            errors = await asyncio.gather(*(client.embed([text]) for text in TEXTS), return_exceptions=True)
        assert all(isinstance(error, QueueUnavailable) for error in errors)
        assert time.monotonic() - started_s < len(TEXTS) / 2


async def test_a_claim_without_a_reply_strands_no_job(server: RedisServer, proxy: Proxy) -> None:
    """Redis leased jobs to a worker that never heard of it: they go back, and no try is burned."""
    async with (
        connect(server.url) as redis,
        connect(proxy.url, timeout_s=0.3, outage_budget=OutageBudget(0)) as cut,
    ):
        prepared = prepare_job(build_request(MODEL, ["a text"], EmbedOptions()))
        await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=60)
        owner = Leases(cut, KEYS, worker="a", lease_s=30)
        assert await owner.claim(0, 1) == []
        proxy.delay_s = 1.0
        with pytest.raises((RedisError, OSError)):
            await owner.claim(1, 1)
        proxy.delay_s = 0.0
        assert await redis.zcard(KEYS.leases) == 1
        [(claim, _)] = await owner.claim(1, 1)
        assert (claim.job, claim.tries) == (prepared.job, 1)


async def test_an_answer_that_redis_does_not_take_fails_its_job_alone(program: str, tmp_path: Path) -> None:
    """It is told why and kept as a dead letter; its slot is free again, and others are answered meanwhile."""
    with RedisServer(program, tmp_path / "server", proto_max_bulk_len="1mb") as server:
        async with worker(server.url, max_jobs=2), Client(server.url, model=MODEL) as client:
            assert (await client.embed(["before"])).ok
            large = await client.submit([f"text {n}" for n in range(1500)])  # 2.3 MB of vectors
            for n in range(5):
                assert (await client.embed([f"beside {n}"], timeout_s=5)).ok
            with pytest.raises(JobFailed) as failed:
                await client.result(large.job, timeout_s=40)
            assert failed.value.worker_code == "answer_refused"
            assert [letter.job for letter in await client.dead_letters()] == [large.job]
            assert server.client().zcard(KEYS.leases) == 0


async def test_an_answer_is_not_sent_in_vain(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """While Redis has no memory a few bytes ask for it, whatever the size of the answers that wait."""
    caplog.set_level("WARNING")
    texts = [
        f"text {n}" for n in range(300)
    ]  # answers of half a megabyte, and in the same command small ones
    async with Client(server.url, model=MODEL) as client:
        jobs = [(await client.submit([str(n), *texts])).job for n in range(3)]
        jobs += [(await client.submit([f"small {n}"])).job for n in range(3)]
        with server.client() as redis:
            redis.config_set("maxmemory", 1)
            async with worker(server.url):
                await until(lambda: caplog.text.count("not_written_yet") >= len(jobs))
                before = redis.info("stats")["total_net_input_bytes"]
                await asyncio.sleep(2)
                assert redis.info("stats")["total_net_input_bytes"] - before < 100_000
                redis.config_set("maxmemory", 0)
                for job in jobs:
                    assert (await client.result(job, timeout_s=10)).ok


async def test_full_memory_while_texts_are_under_test_burns_no_try(server: RedisServer) -> None:
    """A suspect is marked before each range of its texts, which needs memory."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["an innocent text"])).job
        with server.client() as redis:
            redis.hset(KEYS.job(job), "bisection", "")
            redis.config_set("maxmemory", "1mb")
            async with worker(server.url, max_tries=1):
                await asyncio.sleep(3)
                assert await client.num_workers() == 1
                redis.config_set("maxmemory", "0")
                assert (await client.result(job, timeout_s=20)).ok
            assert redis.zcard(KEYS.dead_letters) == 0
