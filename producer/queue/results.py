"""Waits for results, and reads them from their keys."""

import asyncio
import math
from contextlib import suppress

from producer.contract import FAILURE_KEPT_S, Failure, Keys, Reply, decode_result
from producer.errors import JobFailed, ResultNotFound, ResultTimeout
from producer.queue.deadlines import OVERDUE
from producer.queue.notifications import Notifications
from producer.queue.scripts import AWAIT, CONSUME
from producer.queue.worker_watch import WorkerWatch
from producer.terminal import escaped
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import redis_errors

_MAX_WHY_CHARS = 2000
RECHECK_S = 1.0  # how often to check the result key while no notifications arrive
_RARELY_S = 30.0  # and while they do: a job that Redis has lost ends without one
LATE_S = 0.05  # after a job's deadline, so that it is over
_CONSUMED_AT_ONCE = 128


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
        self._read: list[str] = []  # id and size of each answer to consume

    async def wait(
        self,
        job: str,
        done: asyncio.Event,
        *,
        timeout_s: float | None,
        consume: bool,
        look_at_s: float = 0.0,
    ) -> Reply:
        """The reply of a job; its result key is checked at `look_at_s`, and whenever `done` is set.

        Without a subscription it is checked every second, too. Raises JobFailed, ResultTimeout, NoWorker, and
        ResultNotFound if there is neither a job nor a result.
        """
        # The limit is longer, to allow for a check while Redis is unreachable.
        limit_s = None if timeout_s is None else timeout_s + RECHECK_S
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                return await self._wait(job, done, timeout_s=timeout_s, consume=consume, look_at_s=look_at_s)
        raise ResultTimeout(f"no result of job {job} within {timeout_s} s; fetch it later by id")

    async def _wait(
        self,
        job: str,
        done: asyncio.Event,
        *,
        timeout_s: float | None,
        consume: bool,
        look_at_s: float,
    ) -> Reply:
        loop = asyncio.get_running_loop()
        checked_s, pause_s = loop.time(), RECHECK_S
        deadline = math.inf if timeout_s is None else checked_s + timeout_s
        while True:
            if done.is_set() or loop.time() >= min(look_at_s, checked_s + self._recheck_s()):
                done.clear()  # before the check: a notification during it counts for the next
                result = await self._check(job, consume)
                if isinstance(result, Failure):
                    why = escaped(f"[{result.code}] {result.message}", max_chars=_MAX_WHY_CHARS)
                    raise JobFailed(result.code, f"job {job} failed: {why}")
                if isinstance(result, Reply):
                    return result
                checked_s = loop.time()
                look_at_s = checked_s + result + LATE_S
            if loop.time() >= deadline:
                raise TimeoutError
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause_s, deadline - loop.time(), look_at_s - loop.time())):
                    await done.wait()
                    continue
            await self._workers.check()
            pause_s = min(self._recheck_s(), self._workers.look_every_s)

    def _recheck_s(self) -> float:
        return _RARELY_S if self._notifications.is_connected else RECHECK_S

    async def _check(self, job: str, consume: bool) -> Reply | Failure | float:
        """The decoded result, or while the job is pending or running the seconds until its deadline."""
        key = self._keys.result(job)
        if job in self._read:
            self.flush()
        with redis_errors(self._url):
            [payload] = await self._pipeline.send(("GET", key))
            if payload is None and (left_s := await self._expected_s(job)) is not None:
                return left_s
        if payload is None:
            raise ResultNotFound(
                f"no job and no result {job} on queue {self._keys.queue}: "
                "never enqueued, consumed, or expired"
            )
        result = decode_result(payload)
        if consume:
            # Only once it has arrived: with GETDEL, a connection cut in between would lose it.
            self._consume(job, len(payload))
        return result

    def _consume(self, job: str, num_bytes: int) -> None:
        """Delete the answer, unless others have asked for it; those read at a time go together."""
        if not self._read:
            asyncio.get_running_loop().call_soon(self.flush)
        self._read += (job, str(num_bytes))

    def flush(self) -> None:
        """Send what is to be consumed."""
        read, self._read = self._read, []
        for first in range(0, len(read), 2 * _CONSUMED_AT_ONCE):
            # Once: the answer of a lost reply expires, while a repetition would consume another's share.
            command = CONSUME.command(self._keys.root, *read[first : first + 2 * _CONSUMED_AT_ONCE])
            self._pipeline.post(command, once=True)

    async def _expected_s(self, job: str) -> float | None:
        """Seconds until the job's deadline, 0 if it has ended meanwhile; None if nothing is known of it.

        From now on we are told when it ends. One that is still pending at its deadline ends here.
        """
        kept_ms = str(int(FAILURE_KEPT_S * 1000))
        client = self._notifications.client
        [left_ms] = await self._pipeline.send(AWAIT.command(self._keys.root, job, client, OVERDUE, kept_ms))
        return None if left_ms < 0 else left_ms / 1000
