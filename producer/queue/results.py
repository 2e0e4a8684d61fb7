"""Waits for results, and reads them from their keys."""

import asyncio
from contextlib import suppress

from producer.contract import FAILURE_KEPT_S, Failure, Keys, Reply, decode_result
from producer.errors import JobFailed, ResultNotFound, ResultTimeout
from producer.queue.deadlines import OVERDUE
from producer.queue.scripts import CONSUME, EXPECT
from producer.queue.worker_watch import WorkerWatch
from producer.terminal import escaped
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import redis_errors

_MAX_WHY_CHARS = 2000
RECHECK_S = 1.0  # how often to check the result key anyway, since notifications may be lost
_CONSUMED_AT_ONCE = 128


class Results:
    """The results of one queue."""

    def __init__(self, pipeline: AutoPipeline, keys: Keys, url: str, workers: WorkerWatch) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._url = url
        self._workers = workers
        self._read: list[str] = []  # id and size of each answer to consume

    async def wait(
        self, job: str, done: asyncio.Event, *, timeout_s: float | None, consume: bool, fresh: bool = False
    ) -> Reply:
        """The reply of a job; its result key is checked whenever `done` is set, and every second.

        A `fresh` job has only just been enqueued, so the first check waits for `done` or one second. Raises
        JobFailed, ResultTimeout, NoWorker, and ResultNotFound if there is neither a job nor a result.
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
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while True:
            if check:
                done.clear()  # before the check: a notification during it counts for the next
                result = await self._check(job, consume)
                if isinstance(result, Failure):
                    why = escaped(f"[{result.code}] {result.message}", max_chars=_MAX_WHY_CHARS)
                    raise JobFailed(result.code, f"job {job} failed: {why}")
                if result is not None:
                    return result
                await self._workers.check()
            check = True
            wait_s = RECHECK_S if deadline is None else min(RECHECK_S, deadline - loop.time())
            if wait_s <= 0:
                raise TimeoutError
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await done.wait()

    async def _check(self, job: str, consume: bool) -> Reply | Failure | None:
        """The decoded result, or None while the job is pending or running."""
        key = self._keys.result(job)
        if job in self._read:
            self.flush()
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

    async def _is_expected(self, job: str) -> bool:
        """Whether the job or its result exists: it may have ended since the result was checked.

        A job that is still pending at its deadline ends here, even if no worker is there to see it.
        """
        kept_ms = str(int(FAILURE_KEPT_S * 1000))
        [found] = await self._pipeline.send(EXPECT.command(self._keys.root, job, OVERDUE, kept_ms))
        return bool(found)
