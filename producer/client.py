"""The asynchronous client: submit texts, await vectors, fetch them later by job id."""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Self

from producer.contract import (
    DEFAULT_PREFIX,
    EmbedOptions,
    Reply,
    Request,
    build_request,
    options_of,
    run_name,
    texts_of,
)
from producer.errors import ClientClosed, ResultNotFound
from producer.queue.backpressure import Terms
from producer.queue.cancel import Ask, RunCancelled
from producer.queue.connection import ClientOptions, QueueConnection
from producer.queue.dead_letters import DeadLetter
from producer.queue.enqueue import PreparedJob, Priority, QueueLimits, Submission, prepare_job
from producer.queue.listing import JobFilter, JobState, QueuedJob
from producer.terminal import escaped
from producer.transport.connect import DEFAULT_URL, end_tasks, redis_errors

_inherited: list[QueueConnection] = []  # not collected: closing one in a fork would disturb the parent's

Batches = AsyncIterable[Iterable[object]] | Iterable[Iterable[object]]
Options = EmbedOptions | Mapping[str, Any] | None


class Client:
    """One model's queue, seen by a producer; an async context manager.

    Results are kept for `keep_result_s` after the job is done. `run` names a group of jobs that can be
    cancelled together; any number of clients may share it. If Redis cannot be reached, QueueUnavailable is
    raised with the address: after 5 s on entering, later once the outage has lasted `outage_s`. NoWorker is
    raised once a call has waited while no worker served the queue, or was starting, for `wait_for_worker_s`.

    It connects on entering, and belongs to the event loop and the process in which it was entered; it can be
    entered again once it is closed. Pickled, it is its address and options.
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
        wait_for_worker_s: float = 60.0,
    ) -> None:
        self._options = ClientOptions(
            redis_url=redis_url,
            model=model,
            prefix=prefix,
            limits=limits or QueueLimits(),
            keep_result_s=keep_result_s,
            run=run,
            outage_s=outage_s,
            wait_for_worker_s=wait_for_worker_s,
        )
        self._connection: QueueConnection | None = None
        self.num_withdrawn = 0  #: jobs cancelled because `embed_many` was left early

    async def __aenter__(self) -> Self:
        if self._connection is not None and self._connection.is_ours:
            raise ClientClosed("the client is open already; make another one, or share this one")
        if self._connection is not None:
            _inherited.append(self._connection)
        self._connection = await QueueConnection.open(self._options)
        return self

    async def __aexit__(self, *_: object) -> None:
        connection, self._connection = self._queue, None
        await connection.close()

    def __getstate__(self) -> ClientOptions:
        """The address and the options: an open connection does not travel."""
        return self._options

    def __setstate__(self, options: ClientOptions) -> None:
        self._options = options
        self._connection = None
        self.num_withdrawn = 0

    @property
    def _queue(self) -> QueueConnection:
        """The open connection. Raises ClientClosed unless it was opened in this event loop and process."""
        if self._connection is None:
            raise ClientClosed("the client is not open; use it within `async with Client(...) as client:`")
        if not self._connection.is_ours:
            raise ClientClosed(
                "the client was opened in another event loop or process; open one here, in its own "
                "`async with`, or use SyncClient, which works in every thread and forked process"
            )
        return self._connection

    async def embed(
        self,
        texts: Iterable[object],
        options: Options = None,
        *,
        timeout_s: float | None = None,
        cancel_on_timeout: bool = False,
        deadline_s: float | None = None,
        priority: Priority | str = Priority.NORMAL,
    ) -> Reply:
        """Submit up to 4,096 texts as one job and await its reply.

        The texts may be a list, a generator, a NumPy array of strings, or a column of PyArrow, pandas or
        Polars; the options also a dict of them.
        The result is deleted once all who asked for it have read it. Waits while the queue is full. Raises
        RequestError for a request that cannot be sent, JobFailed, NoWorker, ResultTimeout. After a timeout
        the job keeps running unless `cancel_on_timeout`; if the call is cancelled, or the client closed
        meanwhile, so is the job, unless others want it. A job that no worker has begun within `deadline_s`
        (seven days by default) fails with the code `deadline_exceeded` and is not embedded.
        """
        terms = Terms.of(priority, deadline_s, run=self._options.run)
        return await self._queue.awaited.answer(
            self._prepared(texts, options), terms, timeout_s=timeout_s, cancel_on_timeout=cancel_on_timeout
        )

    async def submit(
        self,
        texts: Iterable[object],
        options: Options = None,
        *,
        job: str | None = None,
        deadline_s: float | None = None,
        priority: Priority | str = Priority.NORMAL,
        wait_if_full: bool = False,
    ) -> Submission:
        """Enqueue a job, or join an equal one that is on the queue or whose result is kept; return at once.

        Joining takes the stricter terms: the higher priority, the longer `keep_result_s`, and the later
        `deadline_s`, which is that of `embed`. `job` is its id (default: a hash of model, options and texts).
        Raises QueueFull unless `wait_if_full`, and JobNameTaken if that id is in use for another request.
        """
        prepared = self._prepared(texts, options, job=job)
        terms = Terms.of(priority, deadline_s, run=self._options.run)
        return await self._queue.backpressure.enqueue(prepared, terms, wait_if_full=wait_if_full)

    async def result(self, job: str, *, timeout_s: float | None = None, consume: bool = False) -> Reply:
        """Await the reply of a job; with `consume` it is deleted once all who asked for it have read it.

        Raises JobFailed if the job failed as a whole, ResultTimeout, ResultNotFound.
        """
        with self._queue.notifications.watching(job) as done:
            return await self._queue.results.wait(job, done, timeout_s=timeout_s, consume=consume)

    async def cancel(self, job: str) -> bool:
        """Cancel a pending or running job: all who await it get JobFailed with the code `cancelled`.

        Returns False if it is not, or no longer, on the queue.
        """
        with redis_errors(self._options.redis_url):
            return await self._queue.cancellation.cancel(job)

    async def cancel_run(self, run: str) -> RunCancelled:
        """Cancel all pending and running jobs of a run, as `cancel` does, and count them.

        A job that another run, or a caller without a run, also wants keeps running and is counted as left.
        """
        with redis_errors(self._options.redis_url):
            return await self._queue.cancellation.cancel_run(run_name(run))

    async def dead_letters(self, *, max_dead_letters: int = 100) -> list[DeadLetter]:
        """The newest dead letters, newest first: jobs that were given up."""
        with redis_errors(self._options.redis_url):
            return await self._queue.dead_letters.list(max_dead_letters=max_dead_letters)

    async def dead_letter(self, job: str) -> tuple[DeadLetter, Request | None]:
        """The dead letter of a job, and its request if that can be read. Raises ResultNotFound."""
        with redis_errors(self._options.redis_url):
            dead_letters = self._queue.dead_letters
            letter, request = await dead_letters.get(job), await dead_letters.request(job)
        if letter is None:
            raise ResultNotFound(
                f"no dead letter {escaped(job)} on queue {self._queue.keys.queue}; it may have expired"
            )
        return letter, request

    async def requeue(self, job: str) -> bool:
        """Enqueue a dead letter's job as if new, regardless of the limits; False if there is none."""
        with redis_errors(self._options.redis_url):
            return await self._queue.dead_letters.requeue(job)

    async def drop(self, job: str) -> bool:
        """Delete a dead letter; False if there is none."""
        with redis_errors(self._options.redis_url):
            return await self._queue.dead_letters.drop(job)

    async def requeue_all(self, *, code: str | None = None) -> Sequence[str]:
        """Requeue all dead letters, or those that failed with this code; returns the ids of the jobs."""
        with redis_errors(self._options.redis_url):
            return await self._queue.dead_letters.requeue_all(code=code)

    async def drop_all(self, *, code: str | None = None) -> Sequence[str]:
        """Delete all dead letters, or those that failed with this code; returns the ids of the jobs."""
        with redis_errors(self._options.redis_url):
            return await self._queue.dead_letters.drop_all(code=code)

    async def jobs(
        self,
        *,
        state: JobState | str | None = None,
        run: str | None = None,
        priority: Priority | str | None = None,
        min_age_s: float = 0.0,
        max_jobs: int = 100,
    ) -> list[QueuedJob]:
        """The jobs on the queue that match: running ones, then pending ones in the order of their claims.

        Dead letters are listed only if `state` is `dead`. Jobs that move meanwhile may be missing.
        """
        wanted = JobFilter(state=state, run=run, priority=priority, min_age_s=min_age_s)
        with redis_errors(self._options.redis_url):
            return await self._queue.jobs.matching(wanted, max_jobs=max_jobs)

    async def wait_for_run(self, run: str, *, timeout_s: float | None = None) -> int:
        """Wait until no job of the run is pending or running; returns how many of its jobs are dead letters.

        Raises ResultTimeout.
        """
        with redis_errors(self._options.redis_url):
            return await self._queue.jobs.until_run_ends(run_name(run), timeout_s=timeout_s)

    async def purge(self, *, run: str | None = None) -> RunCancelled:
        """Cancel all jobs that are pending now, or those of a run that nobody else wants, and count them.

        Those that run go on; one that a worker claims meanwhile ends.
        """
        name = "" if run is None else run_name(run)
        with redis_errors(self._options.redis_url):
            return await self._queue.cancellation.cancel_listed(name, await self._queue.jobs.pending())

    async def pause(self, *, for_s: float | None = None) -> None:
        """Let no worker claim a job of the queue until `resume`, or for so long; running jobs go on."""
        with redis_errors(self._options.redis_url):
            await self._queue.pause.begin(for_s=for_s)

    async def resume(self) -> bool:
        """End the queue's pause; False if there was none."""
        with redis_errors(self._options.redis_url):
            return await self._queue.pause.end()

    async def num_workers(self) -> int:
        """How many workers serve the queue now; a new one counts within a second of being ready."""
        with redis_errors(self._options.redis_url):
            seconds, micros = await self._queue.redis.time()
            now_ms = seconds * 1000 + micros // 1000
            return int(await self._queue.redis.zcount(self._options.keys.workers, now_ms, "+inf"))

    async def embed_many(
        self,
        batches: Batches,
        options: Options = None,
        *,
        max_in_flight: int = 16,
        consume: bool = True,
        deadline_s: float | None = None,
        priority: Priority | str = Priority.NORMAL,
    ) -> AsyncGenerator[Reply, None]:
        """Embed batch after batch; replies come in the order of the batches.

        With `consume` results are deleted once read, as by `embed`; `deadline_s` is that of each job. At most
        `max_in_flight` jobs are unanswered or unread at a time, which bounds the memory; waits while the
        queue is full. The first job that fails raises. Leaving early, so or otherwise, cancels the jobs that
        are left, except those that others want.
        """
        queue = self._queue
        window: deque[asyncio.Task[Reply]] = deque()
        abandoned: list[Ask] = []

        async def reply_to(texts: Iterable[object]) -> Reply:
            job = self._prepared(texts, options)
            terms = Terms.of(priority, deadline_s, run=self._options.run)
            return await queue.awaited.answer(job, terms, consume=consume, abandoned=abandoned)

        try:
            async for texts in _each(batches):
                if len(window) >= max_in_flight:
                    yield await window.popleft()
                window.append(asyncio.create_task(reply_to(texts)))
                while window and window[0].done():
                    yield await window.popleft()
            while window:
                yield await window.popleft()
        finally:
            await end_tasks(*window)
            self.num_withdrawn += await queue.awaited.withdraw(abandoned)

    def _prepared(self, texts: Iterable[object], options: Options, *, job: str | None = None) -> PreparedJob:
        """The job of these texts, checked. Raises RequestError."""
        request = build_request(self._options.model, texts_of(texts), options_of(options))
        return prepare_job(request, job=job)


async def _each(batches: Batches) -> AsyncIterator[Iterable[object]]:
    if isinstance(batches, AsyncIterable):
        async for texts in batches:
            yield texts
    else:
        for texts in batches:
            yield texts
