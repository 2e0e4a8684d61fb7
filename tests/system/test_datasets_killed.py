"""Producers of a dataset die at any moment, and nothing is lost, doubled or mixed up."""

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet
from redis.asyncio import Redis
from support.datasets import assert_columns, write_parts
from support.paths import ROOT
from support.redis_hashes import hget
from support.redis_server import RedisServer
from support.serving import MODEL, worker
from support.worker_process import process

from producer import Client
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer

KEYS = Keys(queue_name(MODEL))


def start(url: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "producer", "embed", "in", "-o", "out", "--model", MODEL]
    return subprocess.Popen(
        [*command, "--redis-url", url, "--keep-columns", "all", *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def finished(url: str, folder: Path, *more: str) -> tuple[int, str, str]:
    with start(url, folder, *more) as run:
        output, errors = await asyncio.to_thread(run.communicate)
    return run.returncode, output, errors


def system(*command: str | Path) -> int:
    return subprocess.run(command, check=False).returncode


async def jobs_done(redis: Redis) -> int:
    """Jobs that workers have answered."""
    return int(await hget(redis, KEYS.totals, "done") or 0)


async def until_locked(folder: Path) -> None:
    """Until a run has begun to write, or long enough."""
    for _ in range(500):
        if (folder / "out" / "_locks" / "all").exists():
            return
        await asyncio.sleep(0.02)


def num_parts(out: Path) -> int:
    return len(list(out.glob("*.parquet")))


async def until_parts(out: Path, number: int) -> None:
    """Until so many parts are finished, or long enough."""
    for _ in range(500):
        if num_parts(out) >= number:
            return
        await asyncio.sleep(0.02)


async def killed_again_and_again(url: str, folder: Path, *, times: int, seed: int) -> None:
    """Start the run and kill it at a random moment, that often."""
    chance = random.Random(seed)
    for _ in range(times):
        with start(url, folder) as run:
            await until_locked(folder)
            await asyncio.sleep(chance.uniform(0.0, 0.8))
            run.send_signal(signal.SIGKILL)


def check_sums(out: Path) -> None:
    told = json.loads((out / "_manifest.json").read_text())
    for part in told["parts"]:
        assert hashlib.sha256((out / part["name"]).read_bytes()).hexdigest() == part["sha256"]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_producer_that_is_killed_ten_times(
    redis: Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    """20 parts of 10,000 rows: every row once with its columns, and at most a part's rows twice per kill.

    The second run is quick, one changed row in a hundred is all that is embedded, another model is refused.
    """
    write_parts(tmp_path / "in", parts=20, size=10_000)
    out = tmp_path / "out"
    async with worker(server.url):
        await killed_again_and_again(server.url, tmp_path, times=10, seed=3)
        status, _, errors = await finished(server.url, tmp_path)
        assert status == 0, errors
        table = assert_columns(tmp_path / "in", out)
        check_sums(out)
        assert table.num_rows == 200_000
        # Jobs have 512 rows or fewer; a part of 10,000 makes 20.
        assert await jobs_done(redis) <= (20 + 10) * 20
        async with Client(server.url, model=MODEL) as client:
            some = table.slice(77_000, 100)
            vectors = (await client.embed(some["text"].to_pylist())).vectors
        assert some["vector"].to_pylist() == vectors.tolist()

        started_s = time.monotonic()
        status, output, _ = await finished(server.url, tmp_path)
        assert (status, time.monotonic() - started_s < 5) == (0, True)
        assert output == "up to date: out has all 20 parts with 200,000 rows\n"

        write_parts(tmp_path / "in", parts=20, size=10_000, changed=lambda row: row % 100 == 7)
        status, output, errors = await finished(server.url, tmp_path, "--only-new")
        assert status == 0, errors
        assert "unchanged  198,000 rows, whose vectors were kept" in output
        assert_columns(tmp_path / "in", out)
        check_sums(out)

        status, _, errors = await finished(server.url, tmp_path, "--model", "fake/other")
        assert status == 2
        assert "model fake/echo" in errors
        assert "model fake/other" in errors


@pytest.mark.slow
async def test_two_runs_at_once(redis: Redis, server: EmbeddedServer, tmp_path: Path) -> None:
    """The second is refused with the first one's process, which is not disturbed."""
    write_parts(tmp_path / "in", parts=3, size=1000)
    with start(server.url, tmp_path) as first:  # waits for a worker
        await until_locked(tmp_path)
        status, _, errors = await finished(server.url, tmp_path)
        assert status == 2
        assert f"another run is writing it (process {first.pid} on " in errors
        async with worker(server.url):
            assert await asyncio.to_thread(first.wait, 50) == 0
    assert parquet.read_table(tmp_path / "out").num_rows == 3000


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
async def test_a_full_disk(redis: Redis, server: EmbeddedServer, tmp_path: Path) -> None:
    """Is a sentence; with room again the same command does the rest, and only that."""
    write_parts(tmp_path / "in", parts=10, size=1000)
    out = tmp_path / "out"
    out.mkdir()
    if system("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", out):
        pytest.skip("no right to mount")
    try:
        async with worker(server.url):
            status, _, errors = await finished(server.url, tmp_path)
            assert status == 2, errors
            assert "No space left on device" in errors
            assert "free some space" in errors
            assert "Traceback" not in errors
            done = await jobs_done(redis)
            assert system("mount", "-o", "remount,size=64m", out) == 0
            status, _, errors = await finished(server.url, tmp_path)
            assert status == 0, errors
        assert_columns(tmp_path / "in", out)
        assert done > 2
        assert await jobs_done(redis) <= 20 + 16
    finally:
        assert system("umount", out) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_everything_else_is_killed_too(program: str, tmp_path: Path) -> None:
    """The worker twice, the server twice with all that it held, the producer twice: every row once."""
    write_parts(tmp_path / "in", parts=8, size=4000)
    with RedisServer(program, tmp_path / "server") as redis_server:
        url = redis_server.url
        for number in range(6):
            with process(tmp_path / "worker.log", url) as serving, start(url, tmp_path) as run:
                await until_parts(tmp_path / "out", number + 1)
                if number % 3 == 0:
                    run.send_signal(signal.SIGKILL)
                elif number % 3 == 1:
                    os.killpg(serving.pid, signal.SIGKILL)
                    run.send_signal(signal.SIGKILL)
                else:
                    await asyncio.to_thread(redis_server.kill)
                    await asyncio.to_thread(redis_server.start)
                    await until_parts(tmp_path / "out", number + 2)
                    run.send_signal(signal.SIGKILL)
        with process(tmp_path / "worker.log", url):
            status, _, errors = await finished(url, tmp_path)
        assert status == 0, errors
    assert_columns(tmp_path / "in", tmp_path / "out")
    check_sums(tmp_path / "out")
