"""Enqueues with backpressure: concurrent while there is room, serialized when full."""

import asyncio
import math
import time
from contextlib import suppress
from dataclasses import dataclass

from producer.contract import Keys
from producer.errors import JobFailed, QueueFull
from producer.queue.deadlines import DEADLINE_EXCEEDED, MIN_DEADLINE_S, check_deadline
from producer.queue.enqueue import (
    MAX_INLINE_BYTES,
    PreparedJob,
    Priority,
    QueueLimits,
    Submission,
    out_of_memory,
    queue_full,
    submit,
)
from producer.queue.notifications import Notifications
from producer.queue.results import LATE_S
from producer.queue.scripts import ASK_FOR_ROOM
from producer.queue.worker_watch import WorkerWatch
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import redis_errors

_MUCH_ROOM = 1000  # for that many jobs: then nobody asks until the queue is full again


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

    @property
    def overdue_s(self) -> float:
        """When it is too late to begin, by the same clock; for ever if there is no deadline."""
        return math.inf if self.begin_by_s is None else self.begin_by_s + LATE_S

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
        self._room: int | None = None  # for how many more jobs; None if there is much, as far as we know
        self._has_asked = False
        self._line = asyncio.Lock()

    async def enqueue(self, prepared: PreparedJob, terms: Terms, *, wait_if_full: bool) -> Submission:
        """Enqueue the job or join an equal one; with `wait_if_full` once there is room.

        Large requests, and all once the queue was found full, are sent only after asking for room. Of the
        callers of one client that wait for it, one asks at a time, and all send in the order in which they
        came. The client is told of the end of a job that is awaited. Raises QueueUnavailable, JobNameTaken;
        QueueFull, or NoWorker if a full queue is not served, or JobFailed if it is still full at the job's
        deadline.
        """
        if not wait_if_full and not self._may_send(prepared):
            await self._ask(prepared, client="")
        if not wait_if_full or (self._may_send(prepared) and not self._line.locked()):
            self._take_room()
            try:
                return await self._submit(prepared, terms)
            except QueueFull:
                if not wait_if_full:
                    raise
        while True:
            async with self._line:
                await self._wait_for_room(prepared, terms)
                self._take_room()
                submitting = asyncio.ensure_future(self._submit(prepared, terms))
                if self._room is not None:  # little, of which other clients take too: one at a time
                    await asyncio.gather(submitting, return_exceptions=True)
            with suppress(QueueFull):  # others were faster
                return await submitting

    def _may_send(self, prepared: PreparedJob) -> bool:
        """Whether there should be room; before the first large request we ask in any case."""
        if self._room is None:
            return self._has_asked or len(prepared.payload) <= MAX_INLINE_BYTES
        return self._room > 0

    def _take_room(self) -> None:
        if self._room is not None:
            self._room -= 1

    async def _submit(self, prepared: PreparedJob, terms: Terms) -> Submission:
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
                    client=self._notifications.client if terms.asker else "",
                )
        except QueueFull:
            self._room = 0
            raise

    async def _wait_for_room(self, prepared: PreparedJob, terms: Terms) -> None:
        while not self._may_send(prepared):
            self._notifications.forget_room()
            try:
                await self._ask(prepared, client=self._notifications.client)
            except QueueFull as full:
                await self._notifications.room(timeout_s=min(full.retry_after_s, terms.left_s() or math.inf))
                await self._workers.check()

    async def _ask(self, prepared: PreparedJob, *, client: str) -> None:
        """Find out for how many jobs like this there is room. Raises QueueFull if there is none.

        Then the client is told as soon as there is some.
        """
        numbers = (prepared.num_bytes, self._limits.max_jobs, self._limits.max_bytes)
        command = ASK_FOR_ROOM.command(self._keys.root, prepared.job, client, *map(str, numbers))
        with redis_errors(self._url), out_of_memory(self._keys):
            [(room, depth)] = await self._pipeline.send(command)
        if room == 0:
            raise queue_full(self._keys, self._limits, depth)
        self._room, self._has_asked = (room if room < _MUCH_ROOM else None), True
