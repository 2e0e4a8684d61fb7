"""How a host's workers and their queue are at this moment, asked of the processes and of Redis."""

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from producer.contract import Keys
from producer.errors import PayloadError
from producer.queue.status import read_queue
from producer.transport.connect import connect
from producer.transport.retry import OutageBudget
from worker.supervisor.process import WorkerProcess
from worker.telemetry.prometheus import WorkerSample, queue_families, worker_families

log = structlog.stdlib.get_logger(__name__)

ASK_S = 2.0  # probes and scrapes give up after a few seconds


class HostCollector(Collector):
    """Asks when it is asked, all processes at once, and keeps nothing; for any thread."""

    def __init__(self, model: str, slots: Mapping[str, WorkerProcess], *, redis_url: str, keys: Keys) -> None:
        self._model = model
        self._slots = slots
        self._redis_url = redis_url
        self._keys = keys

    def states(self) -> dict[str, str]:
        """The state of each device's worker process."""
        return {worker.device: worker.state for worker in self._workers()}

    def collect(self) -> Iterator[Metric]:
        """All metrics of the host, for prometheus_client's encoders."""
        yield from worker_families(self._model, self._workers())
        yield from queue_families(self._model, self._queue())

    def _workers(self) -> list[WorkerSample]:
        with ThreadPoolExecutor(len(self._slots), thread_name_prefix="embedmill-ask") as executor:
            return list(executor.map(_ask, self._slots, self._slots.values()))

    def _queue(self) -> dict[str, Any] | None:
        try:
            return asyncio.run(self._read_queue())
        except (RedisError, OSError, PayloadError, TimeoutError) as error:
            log.warning("queue_not_read", error=str(error))
            return None

    async def _read_queue(self) -> dict[str, Any]:
        async with connect(self._redis_url, outage_budget=OutageBudget(0)) as redis, asyncio.timeout(ASK_S):
            return asdict(await read_queue(redis, self._keys))


def _ask(device: str, slot: WorkerProcess) -> WorkerSample:
    state, report = slot.ask(timeout_s=ASK_S)
    return WorkerSample(device=device, state=state, num_starts=slot.num_starts, report=report)
