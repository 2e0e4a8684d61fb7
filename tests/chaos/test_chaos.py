"""Everything that can be killed is killed, again and again; every job is answered, once, and rightly."""

import asyncio
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from producer import Client
from producer.connection import connect, end_tasks
from producer.contract import Keys, Truncate, queue_name
from producer.embedded import find_server
from producer.errors import QueueUnavailable
from worker.backends.fake import fake_vectors
from worker.boot import boot
from worker.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MODEL = "fake/echo"
KEYS = Keys(queue_name(MODEL))
NUM_JOBS = int(os.environ.get("EMBEDMILL_CHAOS_JOBS", "10000"))
NUM_HOSTS = 3
NUM_IN_FLIGHT = 48
LEASE_S = 1.0
KEEP_RESULT_S = 30.0


class Server:
    """A server with an append-only file that can be killed and started again at the same address."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "redis.sock"
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "dir": str(self._directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        command = [find_server(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@contextmanager
def host(url: str, log: Path) -> Iterator[psutil.Process]:
    """`worker run` with short leases; kills must not use up a job's tries."""
    settings = {"REDIS_URL": url, "MODEL": MODEL, "LEASE_S": str(LEASE_S), "MAX_TRIES": "1000"}
    env = {**os.environ, **{f"EMBEDMILL_{name}": value for name, value in settings.items()}}
    with log.open("wb") as output:
        started = subprocess.Popen([sys.executable, "-m", "worker", "run"], env=env, stderr=output)
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        assert started.wait(60) == 0, log.read_text()[-4000:]


async def test_chaos(tmp_path: Path) -> None:
    """Workers killed, ended and frozen, connections cut, the server killed twice: nothing lost or doubled."""
    server, random_numbers = Server(tmp_path), random.Random(20261122)
    server.start()
    num_answered = 0
    texts = iter(range(NUM_JOBS))
    with ExitStack() as on_exit:
        on_exit.callback(server.kill)
        hosts = [on_exit.enter_context(host(server.url, tmp_path / f"host{n}")) for n in range(NUM_HOSTS)]
        async with Client(server.url, model=MODEL, keep_result_s=KEEP_RESULT_S) as client:
            booted = boot(Settings(model=MODEL))
            on_exit.enter_context(closing(booted.backend))

            async def produce() -> None:
                nonlocal num_answered
                for n in texts:
                    text = f"the text of job {n} " * (1 + n % 7)
                    [vector] = await embed(client, text)
                    tokens = booted.tokenizer.encode([text], Truncate.END).tokens
                    np.testing.assert_allclose(vector, fake_vectors(tokens, booted.model.dim)[0], atol=1e-6)
                    num_answered += 1

            havoc = asyncio.create_task(wreak_havoc(server, hosts, random_numbers, lambda: num_answered))
            try:
                async with asyncio.timeout(200):
                    await asyncio.gather(*(produce() for _ in range(NUM_IN_FLIGHT)))
            finally:
                if havoc.done():
                    havoc.result()
                await end_tasks(havoc)
                for one in hosts:
                    for worker in one.children():
                        worker.resume()
        async with connect(server.url) as redis:
            totals = await redis.hgetall(KEYS.totals)
            assert (totals[b"done"], totals[b"bytes"]) == (b"%d" % NUM_JOBS, b"0"), totals
            assert b"failed" not in totals
            assert int(totals[b"lost_leases"]) > 0, "nothing was hit: this was no chaos"
            await all_gone(redis)


async def embed(client: Client, text: str) -> np.ndarray:
    """The vectors of a job of one text, however long Redis is away."""
    while True:
        with suppress(QueueUnavailable):
            job = (await client.submit([text], wait_if_full=True)).job
            return (await client.result(job, timeout_s=60)).vectors
        await asyncio.sleep(0.1)


async def wreak_havoc(
    server: Server, hosts: list[psutil.Process], chance: random.Random, num_answered
) -> None:
    """Every second one thing goes wrong; the server is killed after a third and two thirds of the jobs."""
    restart_at = [NUM_JOBS // 3, 2 * NUM_JOBS // 3]
    async with connect(server.url) as redis:
        for quarter in itertools.count(1):
            await asyncio.sleep(0.25)
            if restart_at and num_answered() >= restart_at[0]:
                restart_at.pop(0)
                server.kill()
                await asyncio.sleep(0.5)
                server.start()
            workers = [worker for one in hosts for worker in one.children()]
            if quarter % 4 or not workers:
                continue
            with suppress(psutil.NoSuchProcess, RedisError, OSError):
                await strike(redis, workers, chance, second=quarter // 4)


async def strike(redis: Redis, workers: list[psutil.Process], chance: random.Random, *, second: int) -> None:
    """Kill a worker and two connections; now and then end one in order, or freeze one beyond its lease."""
    chance.choice(workers).kill()
    if second % 3 == 0:
        chance.choice(workers).terminate()
    if second % 5 == 0:
        frozen = chance.choice(workers)
        frozen.suspend()
        asyncio.get_running_loop().call_later(3 * LEASE_S, resume, frozen)
    clients = await redis.client_list()  # few, just after the server came back
    for one in chance.sample(clients, min(2, len(clients))):
        await redis.client_kill_filter(_id=one["id"])


def resume(worker: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        worker.resume()


async def all_gone(redis: Redis) -> None:
    """Within their time all keys go but the counters and the workers' signs of life."""
    deadline = time.monotonic() + KEEP_RESULT_S + 40
    signs = KEYS.worker("").encode()
    while left := [
        key
        for key in set(await redis.keys()) - {KEYS.totals.encode(), KEYS.workers.encode()}
        if not key.startswith(signs)
    ]:
        assert time.monotonic() < deadline, sorted(left)[:10]
        await asyncio.sleep(0.5)
