"""Collects metrics of a machine's workers and their queue, from the processes and Redis, at each scrape."""

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

ASK_TIMEOUT_S = 2.0  # probes and scrapes give up after a few seconds


class SupervisorCollector(Collector):
    """Asks all worker processes at once, and keeps nothing between scrapes; thread-safe.

    `processes` are keyed by the name of their device.
    """

    def __init__(
        self, model: str, processes: Mapping[str, WorkerProcess], *, redis_url: str, keys: Keys
    ) -> None:
        self._model = model
        self._processes = processes
        self._redis_url = redis_url
        self._keys = keys

    def states(self) -> dict[str, str]:
        """The state of each device's worker process."""
        return {sample.device: sample.state for sample in self._samples()}

    def collect(self) -> Iterator[Metric]:
        """All metrics, for prometheus_client's encoders."""
        yield from worker_families(self._model, self._samples())
        yield from queue_families(self._model, self._queue_status())

    def _samples(self) -> list[WorkerSample]:
        with ThreadPoolExecutor(len(self._processes), thread_name_prefix="embedmill-ask") as executor:
            return list(executor.map(_sample, self._processes, self._processes.values()))

    def _queue_status(self) -> dict[str, Any] | None:
        try:
            return asyncio.run(self._read_queue())
        except (RedisError, OSError, PayloadError, TimeoutError) as error:
            log.warning("queue_read_failed", error=str(error))
            return None

    async def _read_queue(self) -> dict[str, Any]:
        async with (
            connect(self._redis_url, outage_budget=OutageBudget(0)) as redis,
            asyncio.timeout(ASK_TIMEOUT_S),
        ):
            return asdict(await read_queue(redis, self._keys))


def _sample(device: str, process: WorkerProcess) -> WorkerSample:
    state, report = process.ask(timeout_s=ASK_TIMEOUT_S)
    return WorkerSample(
        device=device,
        state=state,
        num_starts=process.num_starts,
        num_hangs=process.num_hangs,
        report=report,
    )
