"""What goes wrong: worker processes killed, ended and frozen, connections cut, the server killed."""

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

SERVER_AWAY_S = 0.5
ROOT = Path(__file__).parents[1]  # from where `python -m benchmarks.soak.chaos` is found


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
def host(command: Sequence[str], log: Path, settings: Mapping[str, str]) -> Iterator[psutil.Process]:
    """The parent of a worker with these settings, ended in order; its log is shown if its status is not 0."""
    env = {**os.environ, **{f"EMBEDMILL_{name}": value for name, value in settings.items()}}
    with log.open("wb") as output:
        started = subprocess.Popen(command, cwd=ROOT, env=env, stderr=output)
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        status = started.wait(60)
        assert status == 0, log.read_text()[-4000:]


class Havoc:
    """Every second a serving worker is killed and two connections are cut; every third one a worker is asked
    to end, every fifth one frozen for three leases. `done` says which part of the work is done: the server is
    killed after a third and after two thirds of it.

    Workers that boot are spared, and so is the last one that serves: on a busy machine a boot takes longer
    than the second until the next kill. `counts` tells what happened.
    """

    def __init__(
        self,
        server: Server,
        hosts: list[psutil.Process],
        *,
        keys: Keys,
        lease_s: float,
        done: Callable[[], float],
        seed: int = 20261122,
    ) -> None:
        self._server = server
        self._hosts = hosts
        self._keys = keys
        self._lease_s = lease_s
        self._done = done
        self._chance = random.Random(seed)
        self._restart_at = [1 / 3, 2 / 3]
        self.counts: Counter[str] = Counter()

    async def wreak(self) -> None:
        """Until cancelled."""
        second = 0
        async with connect(self._server.url) as redis:
            while True:
                await asyncio.sleep(1.0)
                second += 1
                if self._restart_at and self._done() >= self._restart_at[0]:
                    self._restart_at.pop(0)
                    await self._restart()
                with suppress(psutil.NoSuchProcess, RedisError, OSError):
                    self._strike(await self._serving(redis), second)
                    await self._cut(redis)

    def thaw(self) -> None:
        """No worker stays frozen."""
        for one in self._hosts:
            for worker in one.children():
                _resume(worker)

    async def _serving(self, redis: Redis) -> list[psutil.Process]:
        names = [name.decode() for name in await redis.zrange(self._keys.workers, 0, -1)]
        serving = {int(name.split(":")[1]) for name in names}  # a worker's name has its parent's pid
        return [worker for one in self._hosts if one.pid in serving for worker in one.children()]

    async def _restart(self) -> None:
        self._server.kill()
        await asyncio.sleep(SERVER_AWAY_S)
        self._server.start()
        self.counts["server killed"] += 1

    def _strike(self, workers: list[psutil.Process], second: int) -> None:
        if len(workers) < 2:
            return
        self._chance.choice(workers).kill()
        self.counts["workers killed"] += 1
        if second % 3 == 0:
            self._chance.choice(workers).terminate()
            self.counts["workers asked to end"] += 1
        if second % 5 == 0:
            frozen = self._chance.choice(workers)
            frozen.suspend()
            asyncio.get_running_loop().call_later(3 * self._lease_s, _resume, frozen)
            self.counts["workers frozen"] += 1

    async def _cut(self, redis: Redis) -> None:
        clients = await redis.client_list()  # few, just after the server came back
        for one in self._chance.sample(clients, min(2, len(clients))):
            await redis.client_kill_filter(_id=one["id"])
            self.counts["connections cut"] += 1


def _resume(worker: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        worker.resume()
