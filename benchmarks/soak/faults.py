"""Fault injection: what a worker, its parent, the server and the network between them may suffer."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.soak.hosts import Host, Relay, Server
from producer.contract import Keys
from producer.transport.connect import connect

PAUSE_S = 0.5  # between two faults
_POLL_S = 0.1
SERVER_DOWN_S = 0.5
MEMORY_FULL_S = 1.0
NUM_CUT = 5  # connections at once


def deal(kinds: Sequence[str], chance: random.Random) -> Iterator[str]:
    """All kinds in random order, then all of them again, without end: none twice before each came once."""
    while True:
        yield from chance.sample(kinds, len(kinds))


class FaultInjector:
    """Injects one fault after the other, in the order in which `deal` has them.

    A fault waits until it can happen: one that costs a worker spares the last one that serves, since on a
    busy machine a start takes longer than the pause until the next fault. `counts` has the number of injected
    faults by kind.
    """

    def __init__(
        self,
        server: Server,
        hosts: Sequence[Host],
        relays: Sequence[Relay],
        *,
        keys: Keys,
        lease_s: float,
        seed: int,
    ) -> None:
        self._server = server
        self._hosts = hosts
        self._relays = relays
        self._keys = keys
        self._lease_s = lease_s
        self._chance = random.Random(seed)
        self._suspended: list[psutil.Process] = []
        self._kinds: dict[str, Callable[[Redis], Awaitable[bool]]] = {
            "worker killed": self._kill_worker,
            "worker terminated": self._terminate_worker,
            "worker suspended": self._suspend_worker,
            "parent killed": self._kill_parent,
            "connections cut": self._cut_connections,
            "connections swallowed": self._swallow_connections,
            "memory full": self._fill_memory,
            "server killed": self._kill_server,
        }
        self.counts: Counter[str] = Counter(dict.fromkeys(self._kinds, 0))

    @property
    def num_rounds(self) -> int:
        """How often every kind has happened."""
        return min(self.counts.values())

    async def inject(self) -> None:
        """Inject faults until cancelled."""
        async with connect(self._server.url) as redis:
            for kind in deal([*self._kinds], self._chance):
                await asyncio.sleep(PAUSE_S)
                while not await self._happens(kind, redis):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
                self.counts[kind] += 1

    def resume_workers(self) -> None:
        """Resume all suspended workers."""
        for worker in self._suspended:
            _resume(worker)

    async def _happens(self, kind: str, redis: Redis) -> bool:
        """Inject such a fault if it is possible now; False if not."""
        with suppress(psutil.NoSuchProcess, RedisError, OSError):
            return await self._kinds[kind](redis)
        return False

    async def _spare_host(self, redis: Redis) -> Host | None:
        """One of the hosts whose workers serve, if it is not the only one."""
        names = [name.decode() for name in await redis.zrange(self._keys.workers, 0, -1)]
        serving = {int(name.split(":")[1]) for name in names}  # a worker's name contains its parent's pid
        hosts = [host for host in self._hosts if host.pid in serving and host.workers]
        return self._chance.choice(hosts) if len(hosts) > 1 else None

    async def _kill_worker(self, redis: Redis) -> bool:
        if host := await self._spare_host(redis):
            host.workers[0].kill()
        return host is not None

    async def _terminate_worker(self, redis: Redis) -> bool:
        if host := await self._spare_host(redis):
            host.workers[0].terminate()
        return host is not None

    async def _suspend_worker(self, redis: Redis) -> bool:
        """For three leases, so that it loses its jobs and does not know."""
        if host := await self._spare_host(redis):
            [worker] = host.workers
            self._suspended.append(worker)
            worker.suspend()
            asyncio.get_running_loop().call_later(3 * self._lease_s, _resume, worker)
        return host is not None

    async def _kill_parent(self, redis: Redis) -> bool:
        if host := await self._spare_host(redis):
            host.replace_parent()
        return host is not None

    async def _cut_connections(self, redis: Redis) -> bool:
        clients = await redis.client_list()  # only few right after a restart of the server
        for one in self._chance.sample(clients, min(NUM_CUT, len(clients))):
            await redis.client_kill_filter(_id=one["id"], skipme=False)
        return len(clients) > 1

    async def _swallow_connections(self, redis: Redis) -> bool:
        return self._chance.choice(self._relays).swallow()

    async def _fill_memory(self, redis: Redis) -> bool:
        try:
            await redis.config_set("maxmemory", 1)
            await asyncio.sleep(MEMORY_FULL_S)
        finally:
            await redis.config_set("maxmemory", 0)
        return True

    async def _kill_server(self, redis: Redis) -> bool:
        self._server.kill()
        try:
            await asyncio.sleep(SERVER_DOWN_S)
        finally:
            self._server.start()
        return True


def _resume(worker: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        worker.resume()
