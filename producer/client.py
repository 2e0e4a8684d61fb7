"""The asynchronous client: submit texts, await vectors, fetch them later by job id."""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Self

from producer.contract import (
    DEFAULT_PREFIX,
    EmbedOptions,
    Keys,
    Reply,
    Request,
    build_request,
    queue_name,
    run_name,
)
from producer.errors import QueueError, ResultNotFound, ResultTimeout
from producer.queue.backpressure import Backpressure
from producer.queue.cancel import Cancellation, RunCancelled
from producer.queue.dead_letters import DeadLetter, DeadLetters
from producer.queue.enqueue import Priority, QueueLimits, Submission, check_kept, prepare_job
from producer.queue.notifications import Notifications
from producer.queue.results import Results
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import DEFAULT_URL, OUTAGE_S, connect, end_tasks, redis_errors, subscribed
from producer.transport.retry import OutageBudget

_MAX_LOST = 3  # how often a job that Redis has lost is enqueued again
_FLUSH_S = 1.0  # for deleting results that were read; those left over expire
_WITHDRAW_S = 5.0  # for cancelling jobs when leaving early; a Redis that does not answer must not block it

Batches = AsyncIterable[Sequence[object]] | Iterable[Sequence[object]]


class Client:
    """One model's queue, seen by a producer; an async context manager.

    Results are kept for `keep_result_s` after the job is done. `run` names a group of jobs that can be
    cancelled together; any number of clients may share it. If Redis cannot be reached, QueueUnavailable is
    raised with the address: after 5 s on entering, later once the outage has lasted `outage_s`.
    """

    def __init__(
        self,
        redis_url: str = DEFAULT_URL,
        *,
        model: str,
        prefix: str = DEFAULT_PREFIX,
        limits: QueueLimits | None = None,
        keep_result_s: float = 600.0,
        run: str | None = None,
        outage_s: float = 60.0,
    ) -> None:
        self._url = redis_url
        self._run = None if run is None else run_name(run)
        self._model = model
        self._keys = Keys(queue_name(model), prefix)
        self._outage_s = outage_s
        self._outage_budget = OutageBudget(min(OUTAGE_S, outage_s))
        self._redis = connect(redis_url, outage_budget=self._outage_budget)
        self._cancellation = Cancellation(self._redis, self._keys)
        self._dead_letters = DeadLetters(self._redis, self._keys)
        self._notifications = Notifications()
        self._pipeline = AutoPipeline(self._redis)
        self._backpressure = Backpressure(
            self._pipeline,
            self._keys,
            self._notifications,
            url=redis_url,
            limits=limits or QueueLimits(),
            keep_result_s=check_kept(keep_result_s),
            run=self._run,
        )
        self._results = Results(self._pipeline, self._keys, redis_url)
        self._open = AsyncExitStack()
        self.num_withdrawn = 0  #: jobs cancelled because `embed_many` was left early

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            opening.push_async_callback(self._redis.aclose)
            with redis_errors(self._url):
                listening = subscribed(self._redis, self._keys.notifications, self._notifications.on_message)
                await opening.enter_async_context(listening)
            self._outage_budget.outage_s = self._outage_s
            opening.push_async_callback(self._pipeline.flush, timeout_s=_FLUSH_S)
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def embed(
        self,
        texts: Sequence[object],
        options: EmbedOptions | None = None,
        *,
        timeout_s: float | None = None,
        priority: Priority | str = Priority.NORMAL,
    ) -> Reply:
        """Submit up to 4,096 texts as one job and await its reply.

        The result is deleted once read, unless the call joined an equal job: others may still want it.
        Waits while the queue is full. Raises RequestError for a request that cannot be sent, JobFailed,
        ResultTimeout.
        """
        return await self._embed(texts, options, priority, timeout_s=timeout_s)

    async def submit(
        self,
        texts: Sequence[object],
        options: EmbedOptions | None = None,
        *,
        job: str | None = None,
        priority: Priority | str = Priority.NORMAL,
        wait_if_full: bool = False,
    ) -> Submission:
        """Enqueue a job, or join an equal one that is on the queue or whose result is kept; return at once.

        `job` is its id (default: a hash of model, options and texts). Raises QueueFull unless `wait_if_full`.
        """
        prepared = prepare_job(build_request(self._model, texts, options or EmbedOptions()), job=job)
        return await self._backpressure.enqueue(prepared, priority, wait_if_full=wait_if_full)

    async def result(self, job: str, *, timeout_s: float | None = None, consume: bool = False) -> Reply:
        """Await the reply of a job; with `consume` it is deleted once read.

        Raises JobFailed if the job failed as a whole, ResultTimeout, ResultNotFound.
        """
        with self._notifications.watching(job) as done:
            return await self._results.wait(job, done, timeout_s=timeout_s, consume=consume)

    async def cancel(self, job: str) -> bool:
        """Cancel a pending or running job: all who await it get JobFailed with the code `cancelled`.

        Returns False if it is not, or no longer, on the queue.
        """
        with redis_errors(self._url):
            return await self._cancellation.cancel(job)

    async def cancel_run(self, run: str) -> RunCancelled:
        """Cancel all pending and running jobs of a run, as `cancel` does, and count them.

        A job that another run, or a caller without a run, also wants keeps running and is counted as left.
        """
        with redis_errors(self._url):
            return await self._cancellation.cancel_run(run_name(run))

    async def dead_letters(self, *, max_dead_letters: int = 100) -> list[DeadLetter]:
        """The newest dead letters, newest first: jobs that were given up."""
        with redis_errors(self._url):
            return await self._dead_letters.list(max_dead_letters=max_dead_letters)

    async def dead_letter(self, job: str) -> tuple[DeadLetter, Request | None]:
        """The dead letter of a job, and its request if that can be read. Raises ResultNotFound."""
        with redis_errors(self._url):
            letter, request = await self._dead_letters.get(job), await self._dead_letters.request(job)
        if letter is None:
            raise ResultNotFound(f"no dead letter {job} on queue {self._keys.queue}; it may have expired")
        return letter, request

    async def requeue(self, job: str) -> bool:
        """Enqueue a dead letter's job as if new, regardless of the limits; False if there is none."""
        with redis_errors(self._url):
            return await self._dead_letters.requeue(job)

    async def drop(self, job: str) -> bool:
        """Delete a dead letter; False if there is none."""
        with redis_errors(self._url):
            return await self._dead_letters.drop(job)

    async def num_workers(self) -> int:
        """How many workers serve the queue now; a new one counts within a second of being ready."""
        with redis_errors(self._url):
            seconds, micros = await self._redis.time()
            now_ms = seconds * 1000 + micros // 1000
            return int(await self._redis.zcount(self._keys.workers, now_ms, "+inf"))

    async def embed_many(
        self,
        batches: Batches,
        options: EmbedOptions | None = None,
        *,
        max_in_flight: int = 16,
        consume: bool = True,
        priority: Priority | str = Priority.NORMAL,
    ) -> AsyncGenerator[Reply, None]:
        """Embed batch after batch; replies come in the order of the batches.

        With `consume` results are deleted once read, as by `embed`. At most `max_in_flight` jobs are
        unanswered or unread at a time, which bounds the memory; waits while the queue is full. The first job
        that fails raises, and the jobs after it are abandoned: if the client has a run, those that nobody
        else wants are cancelled.
        """
        window: deque[asyncio.Task[Reply]] = deque()
        abandoned: list[str] = []
        turn = asyncio.Lock()  # when the queue is full, one at a time waits for room

        try:
            async for texts in _each(batches):
                if len(window) >= max_in_flight:
                    yield await window.popleft()
                reply = self._embed(texts, options, priority, turn=turn, consume=consume, abandoned=abandoned)
                window.append(asyncio.create_task(reply))
                while window and window[0].done():
                    yield await window.popleft()
            while window:
                yield await window.popleft()
        finally:
            await end_tasks(*window)
            await self._withdraw(abandoned)

    async def _embed(
        self,
        texts: Sequence[object],
        options: EmbedOptions | None,
        priority: Priority | str,
        *,
        turn: asyncio.Lock | None = None,
        timeout_s: float | None = None,
        consume: bool = True,
        abandoned: list[str] | None = None,
    ) -> Reply:
        """One job from texts to reply; a cancellation adds its id to `abandoned`."""
        prepared = prepare_job(build_request(self._model, texts, options or EmbedOptions()))
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        # Watched before it is enqueued, because a worker may finish it before `enqueue` returns.
        with self._notifications.watching(prepared.job) as done:
            num_lost = 0
            while True:
                try:
                    with _not_accepted(timeout_s):
                        async with asyncio.timeout_at(deadline):
                            submission = await self._backpressure.enqueue_in_turn(prepared, priority, turn)
                    fresh = not submission.joined
                    left_s = None if deadline is None else max(0.0, deadline - loop.time())
                    return await self._results.wait(
                        prepared.job, done, timeout_s=left_s, consume=consume and fresh, fresh=fresh
                    )
                except ResultNotFound:
                    # If we joined the job, another client has consumed its result: we enqueue it now. If we
                    # enqueued it, Redis lost it: a new primary may lack the old one's last writes.
                    num_lost += fresh
                    if num_lost > _MAX_LOST:
                        raise
                except asyncio.CancelledError:
                    if abandoned is not None:
                        abandoned.append(prepared.job)
                    raise

    async def _withdraw(self, jobs: list[str]) -> None:
        """Cancel these jobs of our run, unless Redis is unreachable."""
        if self._run is None or not jobs:
            return
        with suppress(QueueError, TimeoutError), redis_errors(self._url):
            async with asyncio.timeout(_WITHDRAW_S):
                cancelled = await self._cancellation.withdraw(self._run, jobs)
                self.num_withdrawn += cancelled.num_ended


@contextmanager
def _not_accepted(timeout_s: float | None) -> Iterator[None]:
    """Say that a job that ran out of time is not on the queue."""
    try:
        yield
    except TimeoutError:
        raise ResultTimeout(
            f"the queue did not accept the job within {timeout_s} s; it is full, or Redis does not answer"
        ) from None


async def _each(batches: Batches) -> AsyncIterator[Sequence[object]]:
    if isinstance(batches, AsyncIterable):
        async for texts in batches:
            yield texts
    else:
        for texts in batches:
            yield texts
