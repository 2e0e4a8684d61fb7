"""Enqueues with backpressure: concurrent while there is room, serialized when full."""

import asyncio
from contextlib import nullcontext, suppress
from functools import partial

from producer.contract import Keys
from producer.errors import QueueFull
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
from producer.queue.scripts import ASK_FOR_ROOM
from producer.queue.worker_watch import WorkerWatch
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import redis_errors

_MUCH_ROOM = 1000  # for that many jobs: then nobody asks until the queue is full again


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

    async def enqueue(
        self,
        prepared: PreparedJob,
        priority: Priority | str,
        *,
        wait_if_full: bool,
        run: str | None,
        is_awaited: bool = False,
    ) -> Submission:
        """Enqueue the job or join an equal one; with `wait_if_full` once there is room.

        Large requests, and all once the queue was found full, are sent only after asking for room. Of the
        callers of one client that wait for it, one asks at a time. The client is told of the end of a job
        that `is_awaited`.
        Raises QueueUnavailable; QueueFull, or NoWorker if a full queue is not served.
        """
        client = self._notifications.client if is_awaited else ""
        submitted = partial(self._submit, prepared, priority, run=run, client=client)
        if not wait_if_full:
            if not self._may_send(prepared):
                await self._ask(prepared, client="")
            return await submitted()
        if not self._line.locked() and self._may_send(prepared):
            with suppress(QueueFull):
                return await submitted()
        async with self._line:
            while True:
                await self._wait_for_room(prepared)
                with suppress(QueueFull):  # others were faster
                    return await submitted()

    async def enqueue_in_turn(
        self,
        prepared: PreparedJob,
        priority: Priority | str,
        turn: asyncio.Lock | None,
        *,
        run: str | None,
        is_awaited: bool = False,
    ) -> Submission:
        """Enqueue concurrently with others; those that share `turn` wait for room in their order."""
        if turn is not None and not turn.locked() and self._may_send(prepared):
            with suppress(QueueFull):
                return await self.enqueue(
                    prepared, priority, wait_if_full=False, run=run, is_awaited=is_awaited
                )
        async with turn or nullcontext():
            return await self.enqueue(prepared, priority, wait_if_full=True, run=run, is_awaited=is_awaited)

    def _may_send(self, prepared: PreparedJob) -> bool:
        """Whether there should be room; before the first large request we ask in any case."""
        if self._room is None:
            return self._has_asked or len(prepared.payload) <= MAX_INLINE_BYTES
        return self._room > 0

    async def _submit(
        self, prepared: PreparedJob, priority: Priority | str, *, run: str | None, client: str
    ) -> Submission:
        if self._room is not None:
            self._room -= 1
        try:
            with redis_errors(self._url):
                submission = await submit(
                    self._pipeline,
                    self._keys,
                    prepared,
                    priority=priority,
                    limits=self._limits,
                    keep_result_s=self._keep_result_s,
                    run=run,
                    client=client,
                )
        except QueueFull:
            self._room = 0
            raise
        return submission

    async def _wait_for_room(self, prepared: PreparedJob) -> None:
        while not self._may_send(prepared):
            self._notifications.forget_room()
            try:
                await self._ask(prepared, client=self._notifications.client)
            except QueueFull as full:
                await self._notifications.room(timeout_s=full.retry_after_s)
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
