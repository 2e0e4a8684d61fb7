"""What workers wrote: read from the result key once it is there."""

import asyncio
from contextlib import suppress

from producer.contract import Failure, Keys, Reply, decode_result
from producer.errors import JobFailed, ResultNotFound, ResultTimeout
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import redis_errors

RECHECK_S = 1.0  # a notification may be lost; the result key is looked at this often anyway


class Results:
    """The results of one queue."""

    def __init__(self, outbox: AutoPipeline, keys: Keys, url: str) -> None:
        self._outbox = outbox
        self._keys = keys
        self._url = url

    async def wait(
        self, job: str, done: asyncio.Event, *, timeout_s: float | None, consume: bool, fresh: bool = False
    ) -> Reply:
        """The reply of a job, looked for whenever `done` is set and now and then besides.

        `fresh` says that it was enqueued this moment: the first look waits to be told. Raises JobFailed,
        ResultTimeout, ResultNotFound if there is neither job nor result.
        """
        # The longer limit is for a look while Redis is away.
        limit_s = None if timeout_s is None else timeout_s + RECHECK_S
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                return await self._wait(job, done, timeout_s=timeout_s, consume=consume, look=not fresh)
        raise ResultTimeout(f"no result of job {job} within {timeout_s} s; fetch it later by id")

    async def _wait(
        self, job: str, done: asyncio.Event, *, timeout_s: float | None, consume: bool, look: bool
    ) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while True:
            if look:
                done.clear()  # before the look: what is told during it counts for the next
                answer = await self._look(job, consume)
                if isinstance(answer, Failure):
                    raise JobFailed(answer.code, f"job {job} failed: [{answer.code}] {answer.message}")
                if answer is not None:
                    return answer
            look = True
            wait_s = RECHECK_S if deadline is None else min(RECHECK_S, deadline - loop.time())
            if wait_s <= 0:
                raise TimeoutError
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await done.wait()

    async def _look(self, job: str, consume: bool) -> Reply | Failure | None:
        """What lies under the result key, or None while the job is on its way."""
        key = self._keys.result(job)
        with redis_errors(self._url):
            [payload] = await self._outbox.send(("GET", key))
            if payload is None and await self._is_pending(job):
                return None
        if payload is None:
            raise ResultNotFound(
                f"no job and no result {job} on queue {self._keys.queue}: "
                "never enqueued, consumed, or expired"
            )
        answer = decode_result(payload)
        if consume:
            # Only once it is here: with GETDEL a connection cut in the middle would lose it.
            self._outbox.post(("UNLINK", key))
        return answer

    async def _is_pending(self, job: str) -> bool:
        """True as long as there is the job or its result: it may have ended since it was looked for."""
        [found] = await self._outbox.send(("EXISTS", self._keys.job(job), self._keys.result(job)))
        return bool(found)
