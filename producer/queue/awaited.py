"""Jobs whose answers callers wait for; they leave the queue once nobody waits any more."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

from producer.contract import Reply
from producer.errors import ClientClosed, JobFailed, NoWorker, QueueError, ResultNotFound, ResultTimeout
from producer.queue.backpressure import Backpressure, Terms
from producer.queue.cancel import Ask, Cancellation
from producer.queue.enqueue import PreparedJob
from producer.queue.notifications import Notifications
from producer.queue.results import Results
from producer.transport.connect import redis_errors

_MAX_LOST = 3  # how often a job that Redis has lost is enqueued again
_WITHDRAW_S = 5.0  # for cancelling jobs when leaving early; a Redis that does not answer must not block it


class AwaitedJobs:
    """The jobs that one open client awaits.

    Each call is an ask of its own, so that withdrawing it ends no job that others want: those who submitted
    it, other clients, also of the same run, other calls of this one, before or after.
    """

    def __init__(
        self,
        backpressure: Backpressure,
        results: Results,
        notifications: Notifications,
        cancellation: Cancellation,
        *,
        url: str,
    ) -> None:
        self._backpressure = backpressure
        self._results = results
        self._notifications = notifications
        self._cancellation = cancellation
        self._url = url
        self._asks: set[Ask] = set()
        self._closing = False

    async def answer(
        self,
        prepared: PreparedJob,
        terms: Terms,
        *,
        timeout_s: float | None = None,
        cancel_on_timeout: bool = False,
        consume: bool = True,
        abandoned: list[Ask] | None = None,
    ) -> Reply:
        """Enqueue the job and await its reply.

        An ask that is not waited for any more, because its caller was cancelled or got NoWorker, is added to
        `abandoned`, or else withdrawn. After a timeout the job stays on the queue unless `cancel_on_timeout`,
        or the queue has not accepted it.
        """
        ask = Ask(prepared.job, uuid4().hex[:16])
        self._asks.add(ask)
        try:
            return await self._answer(
                prepared,
                replace(terms, asker=ask.asker),
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
                self._cancellation.post_withdrawal(ask)
            else:
                abandoned.append(ask)
            raise
        finally:
            self._asks.discard(ask)

    async def withdraw(self, asks: Sequence[Ask]) -> int:
        """Cancel their jobs unless others ask for them; returns how many, 0 if Redis is unreachable."""
        if not asks:
            return 0
        with suppress(QueueError, TimeoutError), redis_errors(self._url):
            async with asyncio.timeout(_WITHDRAW_S):
                return await self._cancellation.withdraw(asks)
        return 0

    async def close(self) -> None:
        """Withdraw whatever is still awaited; its callers get ClientClosed."""
        self._closing = True
        await self.withdraw(list(self._asks))

    async def _answer(
        self,
        prepared: PreparedJob,
        terms: Terms,
        *,
        timeout_s: float | None,
        cancel_on_timeout: bool,
        consume: bool,
    ) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        ask, num_lost = Ask(prepared.job, terms.asker), 0
        # Watched before it is enqueued, because a worker may finish it before `enqueue` returns.
        with self._notifications.watching(prepared.job) as done:
            while True:
                if self._closing:
                    raise ClientClosed("the client was closed during the call")
                try:
                    async with asyncio.timeout_at(deadline):
                        submission = await self._backpressure.enqueue(prepared, terms, wait_if_full=True)
                except TimeoutError:
                    self._cancellation.post_withdrawal(ask)  # it may be on its way
                    raise ResultTimeout(
                        f"the queue did not accept the job within {timeout_s} s; it is full, or Redis does "
                        "not answer"
                    ) from None
                fresh = not submission.joined
                left_s = None if deadline is None else max(0.0, deadline - loop.time())
                try:
                    return await self._results.wait(
                        prepared.job,
                        done,
                        timeout_s=left_s,
                        consume=consume,
                        look_at_s=terms.overdue_s if fresh else 0.0,
                    )
                except ResultTimeout:
                    if not cancel_on_timeout:
                        raise
                    self._cancellation.post_withdrawal(ask)
                    raise ResultTimeout(
                        f"no result of job {prepared.job} within {timeout_s} s; it is cancelled, unless "
                        "others want it"
                    ) from None
                except ResultNotFound:
                    # If we joined the job, its result has expired: we enqueue it now. If we enqueued it,
                    # Redis lost it: a new primary may lack the old one's last writes.
                    num_lost += fresh
                    if num_lost > _MAX_LOST:
                        raise
