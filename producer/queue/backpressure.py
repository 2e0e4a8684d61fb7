"""Enqueues with backpressure: concurrent while there is room, serialized when full."""

import asyncio
from contextlib import nullcontext, suppress

from producer.contract import Keys
from producer.errors import QueueFull
from producer.queue.enqueue import PreparedJob, Priority, QueueLimits, Submission, submit
from producer.queue.notifications import Notifications
from producer.queue.worker_watch import WorkerWatch
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import redis_errors


class Backpressure:
    """Enqueues jobs on one queue with one client's limits and retention of results."""

    def __init__(
        self,
        pipeline: AutoPipeline,
        keys: Keys,
        notifications: Notifications,
        workers: WorkerWatch,
        *,
        url: str,
        limits: QueueLimits,
        keep_result_s: float,
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._notifications = notifications
        self._workers = workers
        self._url = url
        self._limits = limits
        self._keep_result_s = keep_result_s

    async def enqueue(
        self, prepared: PreparedJob, priority: Priority | str, *, wait_if_full: bool, run: str | None
    ) -> Submission:
        """Enqueue the job or join an equal one; with `wait_if_full` once there is room.

        Raises QueueUnavailable; QueueFull, or NoWorker if a full queue is not served.
        """
        while True:
            seen = self._notifications.count
            try:
                with redis_errors(self._url):
                    return await submit(
                        self._pipeline,
                        self._keys,
                        prepared,
                        priority=priority,
                        limits=self._limits,
                        keep_result_s=self._keep_result_s,
                        run=run,
                    )
            except QueueFull as full:
                if not wait_if_full:
                    raise
                await self._notifications.after(seen, timeout_s=full.retry_after_s)
                await self._workers.check()

    async def enqueue_in_turn(
        self, prepared: PreparedJob, priority: Priority | str, turn: asyncio.Lock | None, *, run: str | None
    ) -> Submission:
        """Enqueue concurrently with others; of those that share `turn`, one at a time waits for room."""
        if turn is not None and not turn.locked():
            with suppress(QueueFull):
                return await self.enqueue(prepared, priority, wait_if_full=False, run=run)
        async with turn or nullcontext():
            return await self.enqueue(prepared, priority, wait_if_full=True, run=run)
