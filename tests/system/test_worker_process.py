"""The worker as a process: boot, signals, sudden death, and what its exit status says."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from support.redis_hashes import hget, hgetall, hset
from support.serving import MODEL
from support.text_bytes import text_bytes
from support.worker_process import process

from producer import Client
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))


async def test_it_is_seen_while_it_starts(redis: Redis, server: EmbeddedServer, tmp_path: Path) -> None:
    """Under the name that it serves by, so that nobody gives it up; then it is among the workers instead."""

    async def name_of(key: str) -> bytes:
        while not (names := await redis.zrange(key, 0, -1)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return bytes(names[0])

    starting = asyncio.create_task(name_of(KEYS.starting))
    worker = process(tmp_path / "log", server.url)
    await asyncio.to_thread(worker.__enter__)
    try:
        async with asyncio.timeout(10):
            assert await starting == await name_of(KEYS.workers)
        assert not await redis.exists(KEYS.starting)
    finally:
        await asyncio.to_thread(worker.__exit__, None, None, None)


async def test_a_signal_ends_it_after_its_jobs(redis: Redis, server: EmbeddedServer, tmp_path: Path) -> None:
    """SIGTERM: running jobs finish, pending ones stay, status 0; no try was spent."""
    async with Client(server.url, model=MODEL) as client:
        with process(tmp_path / "log", server.url) as worker:
            sent = [await client.submit([f"text {n} " * 80] * 64) for n in range(40)]
            await client.result(sent[0].job, timeout_s=20)
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, 20) == 0
        assert await redis.zcard(KEYS.leases) == 0
        pending = [job.decode() for job in await redis.zrange(KEYS.pending, 0, -1)]
        answered = [one.job for one in sent if await redis.exists(KEYS.result(one.job))]
        assert sorted(pending + answered) == sorted(one.job for one in sent)
        assert {await hget(redis, KEYS.job(job), "tries") for job in pending} <= {b"0"}


async def test_a_killed_worker_s_jobs_run_elsewhere(
    redis: Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    """SIGKILL in the middle of a run: another worker answers everything, each job once."""
    async with Client(server.url, model=MODEL) as client:
        with process(tmp_path / "one", server.url, lease_s=0.6) as doomed:
            sent = [await client.submit([f"text {n} " * 80] * 64) for n in range(60)]
            await client.result(sent[0].job, timeout_s=20)
            [child] = psutil.Process(doomed.pid).children()
            doomed.kill()  # first, or it would hand the child's jobs back
            child.kill()
            with process(tmp_path / "two", server.url, lease_s=0.6):
                replies = [await client.result(one.job, timeout_s=30) for one in sent]
        assert all(reply.ok for reply in replies)
        totals = await hgetall(redis, KEYS.totals)
        assert (totals[b"done"], await text_bytes(redis, KEYS)) == (b"60", 0)


async def test_what_kills_every_worker_is_given_up(
    redis: Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    """A job whose tries are spent fails with the reason."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["text"])).job
        await hset(redis, KEYS.job(job), "tries", 3)
        with (
            process(tmp_path / "log", server.url, max_tries=3),
            pytest.raises(JobFailed, match="given up after 3 tries") as failed,
        ):
            await client.result(job, timeout_s=20)
        assert failed.value.worker_code == "tries_exhausted"


def test_without_redis_it_says_so_and_ends(tmp_path: Path) -> None:
    """Within bounded time, with the address and without the password."""
    env = {
        **os.environ,
        "EMBEDMILL_MODEL": MODEL,
        "EMBEDMILL_REDIS_URL": f"unix://:secret@{tmp_path}/none.sock",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "worker", "run"], env=env, capture_output=True, timeout=40, check=False
    )
    assert ended.returncode == 1
    assert b"error [queue_unavailable]: no Redis at unix:" in ended.stderr
    assert b"secret" not in ended.stderr
    assert b"Traceback" not in ended.stderr
