"""Jobs whose answers callers wait for; they leave the queue once nobody waits any more."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from producer.contract import Reply
from producer.errors import ClientClosed, JobFailed, NoWorker, QueueError, ResultNotFound, ResultTimeout
from producer.queue.backpressure import Backpressure
from producer.queue.cancel import Cancellation
from producer.queue.enqueue import PreparedJob, Priority
from producer.queue.notifications import Notifications
from producer.queue.results import Results
from producer.transport.connect import redis_errors

_MAX_LOST = 3  # how often a job that Redis has lost is enqueued again
_WITHDRAW_S = 5.0  # for cancelling jobs when leaving early; a Redis that does not answer must not block it


class AwaitedJobs:
    """The jobs that one open client awaits.

    They are enqueued for the client's run, or else under a name that no run can have, so that withdrawing
    them ends no job that others want: those who submitted it, other clients, other callers of this one.
    """

    def __init__(
        self,
        backpressure: Backpressure,
        results: Results,
        notifications: Notifications,
        cancellation: Cancellation,
        *,
        url: str,
        run: str | None,
    ) -> None:
        self._backpressure = backpressure
        self._results = results
        self._notifications = notifications
        self._cancellation = cancellation
        self._url = url
        self._run = run or f"~{uuid4().hex[:16]}"
        self._callers: Counter[str] = Counter()
        self._closing = False

    async def answer(
        self,
        prepared: PreparedJob,
        priority: Priority | str,
        *,
        turn: asyncio.Lock | None = None,
        timeout_s: float | None = None,
        cancel_on_timeout: bool = False,
        consume: bool = True,
        abandoned: list[str] | None = None,
    ) -> Reply:
        """Enqueue the job and await its reply.

        The id of a job that nobody waits for any more, because its caller was cancelled or got NoWorker, is
        added to `abandoned`, or else the job is withdrawn. After a timeout it stays on the queue unless
        `cancel_on_timeout`, or the queue has not accepted it.
        """
        job = prepared.job
        self._callers[job] += 1
        try:
            return await self._answer(
                prepared,
                priority,
                turn=turn,
                timeout_s=timeout_s,
                cancel_on_timeout=cancel_on_timeout,
                consume=consume,
            )
        except JobFailed:
            if self._closing:
                raise ClientClosed("the client was closed during the call") from None
            raise
        except (asyncio.CancelledError, NoWorker):
            if abandoned is None:
                self._give_up(job)
            else:
                abandoned.append(job)
            raise
        finally:
            self._callers[job] -= 1
            if not self._callers[job]:
                del self._callers[job]

    async def withdraw(self, jobs: Sequence[str]) -> int:
        """Cancel those of the jobs that nobody else wants; returns how many, 0 if Redis is unreachable."""
        unwanted = [job for job in jobs if job not in self._callers]
        return await self._withdraw(unwanted) if unwanted else 0

    async def close(self) -> None:
        """Withdraw every job that is still awaited; its callers get ClientClosed."""
        self._closing = True
        if self._callers:
            await self._withdraw(list(self._callers))

    def _give_up(self, job: str) -> None:
        """Withdraw the job, without waiting, unless another caller of this client awaits it."""
        if self._callers[job] == 1:
            self._cancellation.post_withdrawal(self._run, job)

    async def _withdraw(self, jobs: Sequence[str]) -> int:
        with suppress(QueueError, TimeoutError), redis_errors(self._url):
            async with asyncio.timeout(_WITHDRAW_S):
                return (await self._cancellation.withdraw(self._run, jobs)).num_ended
        return 0

    async def _answer(
        self,
        prepared: PreparedJob,
        priority: Priority | str,
        *,
        turn: asyncio.Lock | None,
        timeout_s: float | None,
        cancel_on_timeout: bool,
        consume: bool,
    ) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        num_lost = 0
        # Watched before it is enqueued, because a worker may finish it before `enqueue` returns.
        with self._notifications.watching(prepared.job) as done:
            while True:
                if self._closing:
                    raise ClientClosed("the client was closed during the call")
                try:
                    async with asyncio.timeout_at(deadline):
                        submission = await self._backpressure.enqueue_in_turn(
                            prepared, priority, turn, run=self._run, is_awaited=True
                        )
                except TimeoutError:
                    self._give_up(prepared.job)  # it may be on its way
                    raise ResultTimeout(
                        f"the queue did not accept the job within {timeout_s} s; it is full, or Redis does "
                        "not answer"
                    ) from None
                fresh = not submission.joined
                left_s = None if deadline is None else max(0.0, deadline - loop.time())
                try:
                    return await self._results.wait(
                        prepared.job, done, timeout_s=left_s, consume=consume and fresh, fresh=fresh
                    )
                except ResultTimeout:
                    if not cancel_on_timeout:
                        raise
                    self._give_up(prepared.job)
                    raise ResultTimeout(
                        f"no result of job {prepared.job} within {timeout_s} s; it is cancelled, unless "
                        "others want it"
                    ) from None
                except ResultNotFound:
                    # If we joined the job, another client has consumed its result: we enqueue it now. If we
                    # enqueued it, Redis lost it: a new primary may lack the old one's last writes.
                    num_lost += fresh
                    if num_lost > _MAX_LOST:
                        raise
