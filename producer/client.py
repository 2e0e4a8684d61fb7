"""The asynchronous client: submit texts, await vectors, fetch them later by job id."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Self

from producer.connection import DEFAULT_URL, connect, redis_errors
from producer.contract import (
    DEFAULT_PREFIX,
    EmbedOptions,
    Failure,
    Keys,
    Reply,
    build_request,
    decode_answer,
    queue_name,
)
from producer.errors import JobFailed, QueueFull, ResultNotFound, ResultTimeout
from producer.events import Events
from producer.submission import Priority, QueueLimits, Submission, submit

RECHECK_S = 1.0  # a notification may be lost; the result key is looked at this often anyway

Batches = AsyncIterable[Sequence[object]] | Iterable[Sequence[object]]


class Client:
    """One model's queue, seen by a producer; use it as an async context manager.

    Results stay for `keep_result_s` after the job is done. Everything that goes wrong with Redis is
    QueueUnavailable with the address, after bounded retries.
    """

    def __init__(
        self,
        redis_url: str = DEFAULT_URL,
        *,
        model: str,
        prefix: str = DEFAULT_PREFIX,
        limits: QueueLimits | None = None,
        keep_result_s: float = 600.0,
    ) -> None:
        self._url = redis_url
        self._model = model
        self._keys = Keys(queue_name(model), prefix)
        self._limits = limits or QueueLimits()
        self._keep_result_s = keep_result_s
        self._redis = connect(redis_url)
        self._events = Events(self._redis, self._keys.channel)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            opening.push_async_callback(self._redis.aclose)
            with redis_errors(self._url):
                await opening.enter_async_context(self._events.listening())
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
        """Submit up to 4,096 texts as one job and await its reply; the result is consumed.

        A full queue is waited for. Raises RequestError for what cannot be sent, JobFailed, ResultTimeout.
        """
        return await self._embed(texts, options, timeout_s, True, priority)

    async def submit(
        self,
        texts: Sequence[object],
        options: EmbedOptions | None = None,
        *,
        job: str | None = None,
        priority: Priority | str = Priority.NORMAL,
        wait_if_full: bool = False,
    ) -> Submission:
        """Enqueue a job and return at once; an equal job on the queue, or its kept result, is joined.

        `job` names it (default: a hash of model, options and texts). Raises QueueFull unless told to wait.
        """
        request = build_request(self._model, texts, options or EmbedOptions())
        while True:
            try:
                with redis_errors(self._url):
                    return await submit(
                        self._redis,
                        self._keys,
                        request,
                        job=job,
                        priority=priority,
                        limits=self._limits,
                        keep_result_s=self._keep_result_s,
                    )
            except QueueFull as full:
                if not wait_if_full:
                    raise
                await asyncio.sleep(full.retry_after_s)

    async def result(self, job: str, *, timeout_s: float | None = None, consume: bool = False) -> Reply:
        """The reply of a job, awaited if it is not done; with `consume` it is deleted once read.

        Raises JobFailed if the job failed as a whole, ResultTimeout, ResultNotFound.
        """
        return await self._await_result(job, timeout_s, consume, fresh=False)

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

        At most `max_in_flight` jobs are unanswered or unread at a time, so memory is bounded by them;
        a full queue is waited for. The first failed job raises and the ones behind it are abandoned.
        """
        window: deque[asyncio.Task[Reply]] = deque()

        try:
            async for texts in _each(batches):
                if len(window) >= max_in_flight:
                    yield await window.popleft()
                window.append(asyncio.create_task(self._embed(texts, options, None, consume, priority)))
                while window and window[0].done():
                    yield await window.popleft()
            while window:
                yield await window.popleft()
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)

    async def _embed(
        self,
        texts: Sequence[object],
        options: EmbedOptions | None,
        timeout_s: float | None,
        consume: bool,
        priority: Priority | str,
    ) -> Reply:
        while True:
            submission = await self.submit(texts, options, priority=priority, wait_if_full=True)
            try:
                return await self._await_result(
                    submission.job,
                    timeout_s,
                    consume and not submission.joined,
                    fresh=not submission.joined,
                )
            except ResultNotFound:
                # The job we joined was consumed by whoever enqueued it: it is ours to enqueue now.
                if not submission.joined:
                    raise

    async def _await_result(self, job: str, timeout_s: float | None, consume: bool, *, fresh: bool) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        with self._events.watching(job) as done:
            look = not fresh  # a job enqueued this moment has no result yet: first wait to be told
            while True:
                answer = await self._answer(job, consume) if look else None
                if isinstance(answer, Failure):
                    raise JobFailed(answer.code, f"job {job} failed: [{answer.code}] {answer.message}")
                if answer is not None:
                    return answer
                look = True
                wait_s = RECHECK_S if deadline is None else min(RECHECK_S, deadline - loop.time())
                if wait_s <= 0:
                    raise ResultTimeout(f"no result of job {job} within {timeout_s} s; fetch it later by id")
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await done.wait()

    async def _answer(self, job: str, consume: bool) -> Reply | Failure | None:
        """What lies under the result key, or None while the job is on its way."""
        key = self._keys.result(job)
        with redis_errors(self._url):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.exists(self._keys.job(job))
                pipe.getdel(key) if consume else pipe.get(key)
                pending, payload = await pipe.execute()
        if payload is not None:
            return decode_answer(payload)
        if pending:
            return None
        raise ResultNotFound(
            f"no job and no result {job} on queue {self._keys.queue}: never enqueued, consumed, or expired"
        )


async def _each(batches: Batches) -> AsyncIterator[Sequence[object]]:
    if isinstance(batches, AsyncIterable):
        async for texts in batches:
            yield texts
    else:
        for texts in batches:
            yield texts
