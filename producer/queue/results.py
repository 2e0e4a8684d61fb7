"""Waits for results, and reads them from their keys."""

import asyncio
import math
from contextlib import suppress

from producer.contract import Failure, Keys, Reply, decode_result
from producer.errors import JobFailed, ResultNotFound, ResultTimeout
from producer.queue.notifications import Notifications
from producer.queue.scripts import AWAIT
from producer.queue.worker_watch import WorkerWatch
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import redis_errors

RECHECK_S = 1.0  # how often to check the result key while no notifications arrive
_RARELY_S = 30.0  # and while they do: a job that Redis has lost ends without one


class Results:
    """The results of one queue."""

    def __init__(
        self,
        pipeline: AutoPipeline,
        keys: Keys,
        url: str,
        workers: WorkerWatch,
        notifications: Notifications,
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._url = url
        self._workers = workers
        self._notifications = notifications

    async def wait(
        self, job: str, done: asyncio.Event, *, timeout_s: float | None, consume: bool, fresh: bool = False
    ) -> Reply:
        """The reply of a job; its result key is checked whenever `done` is set.

        Without a subscription it is checked every second, too. A `fresh` job has only just been enqueued, so
        the first check waits for `done`. Raises JobFailed, ResultTimeout, NoWorker, and ResultNotFound if
        there is neither a job nor a result.
        """
        # The limit is longer, to allow for a check while Redis is unreachable.
        limit_s = None if timeout_s is None else timeout_s + RECHECK_S
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                return await self._wait(job, done, timeout_s=timeout_s, consume=consume, check=not fresh)
        raise ResultTimeout(f"no result of job {job} within {timeout_s} s; fetch it later by id")

    async def _wait(
        self, job: str, done: asyncio.Event, *, timeout_s: float | None, consume: bool, check: bool
    ) -> Reply:
        loop = asyncio.get_running_loop()
        checked_s, pause_s = loop.time(), RECHECK_S
        deadline = math.inf if timeout_s is None else checked_s + timeout_s
        while True:
            if check or done.is_set() or loop.time() - checked_s >= self._recheck_s():
                done.clear()  # before the check: a notification during it counts for the next
                result = await self._check(job, consume)
                if isinstance(result, Failure):
                    raise JobFailed(result.code, f"job {job} failed: [{result.code}] {result.message}")
                if result is not None:
                    return result
                check, checked_s = False, loop.time()
            if loop.time() >= deadline:
                raise TimeoutError
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause_s, deadline - loop.time())):
                    await done.wait()
                    continue
            await self._workers.check()
            pause_s = min(self._recheck_s(), self._workers.look_every_s)

    def _recheck_s(self) -> float:
        return _RARELY_S if self._notifications.is_connected else RECHECK_S

    async def _check(self, job: str, consume: bool) -> Reply | Failure | None:
        """The decoded result, or None while the job is pending or running."""
        key = self._keys.result(job)
        with redis_errors(self._url):
            [payload] = await self._pipeline.send(("GET", key))
            if payload is None and await self._is_expected(job):
                return None
        if payload is None:
            raise ResultNotFound(
                f"no job and no result {job} on queue {self._keys.queue}: "
                "never enqueued, consumed, or expired"
            )
        result = decode_result(payload)
        if consume:
            # Only once it has arrived: with GETDEL, a connection cut in between would lose it.
            self._pipeline.post(("UNLINK", key))
        return result

    async def _is_expected(self, job: str) -> bool:
        """Whether we are told when the job ends, or its result exists: it may have ended meanwhile."""
        told, found = await self._pipeline.send(
            AWAIT.command(self._keys.root, job, self._notifications.client),
            ("EXISTS", self._keys.result(job)),
        )
        return bool(told or found)
