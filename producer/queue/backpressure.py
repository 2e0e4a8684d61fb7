"""Enqueues with backpressure: concurrent while there is room, serialized when full."""

import asyncio
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from producer.contract import Keys
from producer.errors import JobFailed, QueueFull
from producer.queue.deadlines import DEADLINE_EXCEEDED, MIN_DEADLINE_S, check_deadline
from producer.queue.enqueue import PreparedJob, Priority, QueueLimits, Submission, submit
from producer.queue.notifications import Notifications
from producer.queue.worker_watch import WorkerWatch
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import redis_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a job is asked for: how urgently, until when it must begin, for which run, and by whom."""

    priority: Priority | str = Priority.NORMAL
    begin_by_s: float | None = None  #: of this process's monotonic clock
    run: str | None = None
    asker: str = ""  #: '' for an ask that is never withdrawn

    @classmethod
    def of(
        cls, priority: Priority | str, deadline_s: float | None, *, run: str | None, asker: str = ""
    ) -> "Terms":
        """The terms of a call that begins now. Raises InvalidOption."""
        begin_by_s = None if deadline_s is None else time.monotonic() + check_deadline(deadline_s)
        return cls(priority=priority, begin_by_s=begin_by_s, run=run, asker=asker)

    def left_s(self) -> float | None:
        """How much of the deadline is left, if there is one. Raises JobFailed after it."""
        if self.begin_by_s is None:
            return None
        left_s = self.begin_by_s - time.monotonic()
        if left_s <= 0:
            raise JobFailed(DEADLINE_EXCEEDED.code, DEADLINE_EXCEEDED.message)
        return max(left_s, MIN_DEADLINE_S)


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

    async def enqueue(self, prepared: PreparedJob, terms: Terms, *, wait_if_full: bool) -> Submission:
        """Enqueue the job or join an equal one; with `wait_if_full` once there is room.

        Raises QueueUnavailable, JobNameTaken; QueueFull, or NoWorker if a full queue is not served, or
        JobFailed if it is still full at the job's deadline.
        """
        while True:
            seen = self._notifications.count
            try:
                with redis_errors(self._url):
                    return await submit(
                        self._pipeline,
                        self._keys,
                        prepared,
                        priority=terms.priority,
                        limits=self._limits,
                        keep_result_s=self._keep_result_s,
                        deadline_s=terms.left_s(),
                        run=terms.run,
                        asker=terms.asker,
                    )
            except QueueFull as full:
                if not wait_if_full:
                    raise
                await self._notifications.after(seen, timeout_s=full.retry_after_s)
                await self._workers.check()

    async def enqueue_in_turn(
        self, prepared: PreparedJob, terms: Terms, turn: asyncio.Lock | None
    ) -> Submission:
        """Enqueue concurrently with others; of those that share `turn`, one at a time waits for room."""
        if turn is not None and not turn.locked():
            with suppress(QueueFull):
                return await self.enqueue(prepared, terms, wait_if_full=False)
        async with turn or nullcontext():
            return await self.enqueue(prepared, terms, wait_if_full=True)
