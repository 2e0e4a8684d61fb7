"""Rates of queues and workers over the last seconds, from the counters in several readings."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from producer.contract import WorkerRecord
from producer.queue.status import QueueStatus

WINDOW_S = 10.0  # long enough for jobs of thousands of texts, short enough to look live


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRates:
    """One worker over the window; shares are 0 to 1, and None if it computed nothing."""

    texts_per_s: float
    tokens_per_s: float
    busy: float
    fill: float | None
    padding: float | None


class Rates:
    """Keeps the readings of the last seconds; a worker's times are from its own clock."""

    def __init__(self) -> None:
        self._workers: dict[str, deque[WorkerRecord]] = {}
        self._queues: dict[str, deque[tuple[float, int]]] = {}

    def update(self, now_s: float, queues: Sequence[QueueStatus]) -> None:
        """Add the reading of `now_s`; queues and workers that are missing from it are forgotten."""
        workers = {worker.name: worker for queue in queues for worker in queue.workers}
        self._workers = {name: self._workers.get(name, deque()) for name in workers}
        for name, record in workers.items():
            records = self._workers[name]
            if not records or record.ready_for_s > records[-1].ready_for_s:
                records.append(record)
            while len(records) > 2 and record.ready_for_s - records[1].ready_for_s >= WINDOW_S:
                records.popleft()
        self._queues = {queue.queue: self._queues.get(queue.queue, deque()) for queue in queues}
        for queue in queues:
            readings = self._queues[queue.queue]
            readings.append((now_s, queue.done))
            while len(readings) > 2 and now_s - readings[1][0] >= WINDOW_S:
                readings.popleft()

    def jobs_per_s(self, queue: str) -> float | None:
        """Jobs of the queue done per second; None before the second reading."""
        readings = self._queues.get(queue, deque())
        if len(readings) < 2:
            return None
        (first_s, first), (last_s, last) = readings[0], readings[-1]
        return (last - first) / max(last_s - first_s, 1e-9)

    def of_worker(self, name: str) -> WorkerRates | None:
        """The worker's rates; None before its second record."""
        records = self._workers.get(name, deque())
        if len(records) < 2:
            return None
        first, last = records[0], records[-1]
        seconds = last.ready_for_s - first.ready_for_s
        tokens = last.batch_tokens - first.batch_tokens
        cost_tokens = last.batch_cost_tokens - first.batch_cost_tokens
        budget_tokens = last.batch_budget_tokens - first.batch_budget_tokens
        return WorkerRates(
            texts_per_s=(last.batch_texts - first.batch_texts) / seconds,
            tokens_per_s=tokens / seconds,
            busy=min(1.0, (last.busy_s - first.busy_s) / seconds),  # a batch counts when it ends
            fill=cost_tokens / budget_tokens if budget_tokens else None,
            padding=1 - tokens / cost_tokens if cost_tokens else None,
        )
