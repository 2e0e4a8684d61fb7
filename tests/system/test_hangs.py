"""What does not move is noticed and ended; its jobs go back in a stated time, and few are suspects."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.hanging_worker import HANGS
from support.paths import ROOT
from support.redis_hashes import hgetall
from support.serving import MODEL, booted

from producer import Client
from producer.contract import Keys, decode_record, queue_name
from producer.embedded.services import EmbeddedServer
from producer.transport.connect import connect, end_tasks
from worker.backends.fake import FakeBackend
from worker.consumer.handback import hand_back, new_owner
from worker.serving.app import serve
from worker.settings import Settings
from worker.startup.speed import measured_tokens_per_s
from worker.supervisor.process import HUNG_STATUS, WorkerProcess

KEYS = Keys(queue_name(MODEL))
PROGRAM = ROOT / "tests" / "support" / "hanging_worker.py"
HANG_S, LEASE_S = 0.6, 0.3
LARGE = [HANGS + " in a text so long that a thread reads it" * 40]


def environment(url: str) -> dict[str, str]:
    paths = {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    settings = {"REDIS_URL": url, "MODEL": MODEL, "HANG_S": HANG_S, "LEASE_S": LEASE_S}
    return {
        **os.environ,
        **paths,
        **{f"EMBEDMILL_{name}": str(value) for name, value in settings.items()},
    }


@contextmanager
def alone(url: str, stage: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process with a parent that does nothing about its end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, str(PROGRAM), new_owner(), stage]
        process = subprocess.Popen(
            command, stdin=theirs.fileno(), stderr=subprocess.PIPE, env=environment(url)
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@contextmanager
def supervised(url: str, *arguments: str) -> Iterator[WorkerProcess]:
    """A worker process that is restarted, as `worker run` does it."""

    async def give_back(owner: str) -> bool:
        async with connect(url) as redis:
            return (await hand_back(redis, KEYS, owner)).num_under_test > 0

    slot = WorkerProcess(
        environment(url),
        command=lambda owner: [sys.executable, str(PROGRAM), owner, *arguments],
        hand_back=lambda owner: asyncio.run(give_back(owner)),
        silent_s=2 * HANG_S,
    )
    thread = threading.Thread(target=slot.run)
    thread.start()
    try:
        yield slot
    finally:
        slot.stop()
        thread.join()


async def running(redis: Redis, count: int) -> None:
    async with asyncio.timeout(20):
        while await redis.zcard(KEYS.leases) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def state_told(redis: Redis) -> str:
    """What the worker's record says, once it says something else than that it serves."""
    async with asyncio.timeout(20):
        while True:
            for name in await redis.zrange(KEYS.workers, 0, -1):
                record = await redis.get(KEYS.worker(name.decode()))
                if record is not None and (state := decode_record(record).state) != "serving":
                    return state
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("hangs", "texts", "told"),
    [
        ("device", [HANGS], "device"),
        ("tokenizer", LARGE, "prepare"),
        ("loop", LARGE, "loop"),
        # So small that the event loop reads it.
        pytest.param("tokenizer", [HANGS], "prepare", marks=pytest.mark.slow),
    ],
    ids=["device", "thread", "loop", "quick"],
)
async def test_a_hung_worker_ends(
    redis: Redis, server: EmbeddedServer, hangs: str, texts: list[str], told: str
) -> None:
    """It says so, hands its jobs back without a lost try, that at fault as a suspect, and has its status."""
    async with Client(server.url, model=MODEL) as client:
        with alone(server.url, hangs) as process:
            suspect = (await client.submit(texts)).job
            await running(redis, 1)
            innocent = (await client.submit(["innocent"])).job if told == "device" else None
            started_s = time.monotonic()
            assert await state_told(redis) == "hung"
            _, log = await asyncio.to_thread(process.communicate, timeout=10)
            assert await redis.zcard(KEYS.leases) == 0
            assert time.monotonic() - started_s < HANG_S + 5
            assert process.returncode == HUNG_STATUS
    line = next(line for line in log.decode().splitlines() if "worker_hung" in line)
    assert f"stage={told}" in line
    assert HANGS not in log.decode()
    job = await hgetall(redis, KEYS.job(suspect))
    assert (job[b"tries"], job[b"bisection"]) == (b"0", b"")
    if innocent is not None:
        job = await hgetall(redis, KEYS.job(innocent))
        assert job[b"tries"] == b"0"
        assert b"bisection" not in job


@pytest.mark.parametrize("hangs", [pytest.param("device", marks=pytest.mark.slow), "process"])
async def test_another_worker_answers(
    redis: Redis, server: EmbeddedServer, tmp_path: Path, hangs: str
) -> None:
    """Also for a process that cannot notice it, being frozen: its parent ends it."""
    async with Client(server.url, model=MODEL) as client:
        with supervised(server.url, hangs, str(tmp_path / "hung")) as slot:
            assert (await client.embed([HANGS, "another"], timeout_s=20)).ok
            assert (slot.num_starts, slot.num_hangs) == (2, 1)


@pytest.mark.slow
async def test_a_text_that_hangs_every_worker_is_found(redis: Redis, server: EmbeddedServer) -> None:
    """As one that kills them: it fails alone, and those beside it get their vectors."""
    async with Client(server.url, model=MODEL) as client:
        with supervised(server.url, "device") as slot:
            reply = await client.embed(["a", "b", f"a {HANGS}", "c"], timeout_s=90)
            assert [(one.index, one.code) for one in reply.failures] == [(2, "killed_worker")]
            assert slot.num_hangs == 6  # beside others, all four, two, one, and that one twice more
            assert (await client.embed(["another"], timeout_s=10)).ok


async def test_a_slow_batch_lives(redis: Redis, server: EmbeddedServer) -> None:
    """Where batches were slow at boot they may be: here three times as long as a stage may take at least."""
    settings = Settings(model=MODEL, redis_url=server.url, hang_s=0.5)
    found = booted(settings)
    found.backend.close()
    slow = FakeBackend(
        dim=found.model.dim, max_text_tokens=found.model.max_text_tokens, padded=False, delay_s=1.5
    )
    speed = measured_tokens_per_s(
        slow, found.tokenizer.encode(["some words"], found.tokenizer.truncate).tokens
    )
    ended: list[int] = []
    booted_slow = replace(found, backend=slow, tokens_per_s=speed)
    task = asyncio.create_task(serve(settings, booted_slow, end_process=ended.append))
    try:
        async with Client(server.url, model=MODEL) as client:
            assert (await client.embed(["some words"], timeout_s=20)).ok
        assert ended == []
    finally:
        await end_tasks(task)
