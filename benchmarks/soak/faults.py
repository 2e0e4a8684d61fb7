"""Fault injection: kills, terminates and suspends workers, cuts connections, kills the server."""

import asyncio
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from producer.contract import Keys
from producer.embedded.services import find_server
from producer.transport.connect import connect

SERVER_DOWN_S = 0.5
ROOT = Path(__file__).parents[2]  # the directory in which workers are started


class Server:
    """A server with an append-only file that can be killed and restarted at the same address."""

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
def host(command: Sequence[str], log: Path, settings: Mapping[str, str]) -> Iterator[psutil.Process]:
    """The parent of a worker with these settings; AssertionError with its log if it exits with an error."""
    env = {**os.environ, **{f"EMBEDMILL_{name}": value for name, value in settings.items()}}
    with log.open("wb") as output:
        started = subprocess.Popen(command, cwd=ROOT, env=env, stderr=output)
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        status = started.wait(60)
        assert status == 0, log.read_text()[-4000:]


class FaultInjector:
    """Kills a serving worker and cuts two connections every second; terminates a worker every three seconds,
    and suspends one for three leases every five. `progress` is the completed fraction of the jobs: the server
    is killed after a third and after two thirds.

    Starting workers are spared, and so is the last one that serves: on a busy machine a start takes longer
    than the second until the next kill. `counts` has the number of injected faults by kind.
    """

    def __init__(
        self,
        server: Server,
        hosts: list[psutil.Process],
        *,
        keys: Keys,
        lease_s: float,
        progress: Callable[[], float],
        seed: int = 20261122,
    ) -> None:
        self._server = server
        self._hosts = hosts
        self._keys = keys
        self._lease_s = lease_s
        self._progress = progress
        self._random = random.Random(seed)
        self._restart_at = [1 / 3, 2 / 3]
        self.counts: Counter[str] = Counter()

    async def inject(self) -> None:
        """Inject faults until cancelled."""
        second = 0
        async with connect(self._server.url) as redis:
            while True:
                await asyncio.sleep(1.0)
                second += 1
                if self._restart_at and self._progress() >= self._restart_at[0]:
                    self._restart_at.pop(0)
                    await self._restart()
                with suppress(psutil.NoSuchProcess, RedisError, OSError):
                    self._hit_workers(await self._serving(redis), second)
                    await self._cut_connections(redis)

    def resume_workers(self) -> None:
        """Resume all suspended workers."""
        for one in self._hosts:
            for worker in one.children():
                _resume(worker)

    async def _serving(self, redis: Redis) -> list[psutil.Process]:
        names = [name.decode() for name in await redis.zrange(self._keys.workers, 0, -1)]
        serving = {int(name.split(":")[1]) for name in names}  # a worker's name contains its parent's pid
        return [worker for one in self._hosts if one.pid in serving for worker in one.children()]

    async def _restart(self) -> None:
        self._server.kill()
        await asyncio.sleep(SERVER_DOWN_S)
        self._server.start()
        self.counts["server killed"] += 1

    def _hit_workers(self, workers: list[psutil.Process], second: int) -> None:
        if len(workers) < 2:
            return
        self._random.choice(workers).kill()
        self.counts["workers killed"] += 1
        if second % 3 == 0:
            self._random.choice(workers).terminate()
            self.counts["workers terminated"] += 1
        if second % 5 == 0:
            suspended = self._random.choice(workers)
            suspended.suspend()
            asyncio.get_running_loop().call_later(3 * self._lease_s, _resume, suspended)
            self.counts["workers suspended"] += 1

    async def _cut_connections(self, redis: Redis) -> None:
        clients = await redis.client_list()  # only few right after a restart of the server
        for one in self._random.sample(clients, min(2, len(clients))):
            await redis.client_kill_filter(_id=one["id"])
            self.counts["connections cut"] += 1


def _resume(worker: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        worker.resume()
