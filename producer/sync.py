"""The client for code without an event loop: blocking calls, run in a thread with a loop."""

import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar
from weakref import WeakSet, finalize

from producer.client import Client, Options
from producer.contract import DEFAULT_PREFIX, Reply, Request
from producer.errors import ClientClosed
from producer.queue.cancel import RunCancelled
from producer.queue.dead_letters import DeadLetter
from producer.queue.enqueue import Priority, QueueLimits, Submission
from producer.queue.listing import JobState, QueuedJob
from producer.transport.connect import DEFAULT_URL
from producer.transport.loop_thread import LoopThread

_Result = TypeVar("_Result")


class SyncClient:
    """`Client` behind blocking calls, with the same names, arguments and errors; a context manager.

    Safe to share between threads, also where an event loop runs, as in a notebook. It connects on entering
    or at its first call. Pickled, it is its address and options. In a forked process it connects anew at its
    first call there; calls and iterations that were under way in the parent go on in the parent only.
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
        self._client = Client(
            redis_url,
            model=model,
            prefix=prefix,
            limits=limits,
            keep_result_s=keep_result_s,
            run=run,
            outage_s=outage_s,
            wait_for_worker_s=wait_for_worker_s,
        )
        self._closed = False
        self._forget()

    def __getstate__(self) -> Client:
        return self._client

    def __setstate__(self, client: Client) -> None:
        self._client = client
        self._closed = False
        self._forget()

    def _forget(self) -> None:
        """Be as new: nothing is open, and no other thread is about to open anything."""
        self._thread: LoopThread | None = None
        self._opening = threading.Lock()
        _clients.add(self)

    def __enter__(self) -> Self:
        self._closed = False
        self._opened()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end the thread; calling it twice is fine."""
        with self._opening:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._finalizer.detach()
            try:
                thread.run(self._client.__aexit__(None, None, None))
            finally:
                thread.close()

    def _opened(self) -> LoopThread:
        """The thread in whose loop the client is open. Raises ClientClosed, QueueUnavailable."""
        thread = self._thread
        if thread is not None:
            return thread
        with self._opening:
            if self._closed:
                raise ClientClosed("the client is closed; enter it again, or make another one")
            if self._thread is None:
                thread = LoopThread("embedmill-client")
                try:
                    thread.run(self._client.__aenter__())
                except BaseException:
                    thread.close()
                    raise
                self._thread = thread
                # A copy that a process unpickled for one task is not closed by anyone.
                self._finalizer = finalize(self, thread.abandon, partial(_leave, self._client))
                self._finalizer.atexit = False
            return self._thread

    def _run(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        """The result of a call of the client, which is opened before."""
        try:
            thread = self._opened()
        except BaseException:
            call.close()
            raise
        return thread.run(call)

    def embed(
        self,
        texts: Iterable[object],
        options: Options = None,
        *,
        timeout_s: float | None = None,
        cancel_on_timeout: bool = False,
        deadline_s: float | None = None,
        priority: Priority | str = Priority.NORMAL,
    ) -> Reply:
        """See `Client.embed`."""
        return self._run(
            self._client.embed(
                texts,
                options,
                timeout_s=timeout_s,
                cancel_on_timeout=cancel_on_timeout,
                deadline_s=deadline_s,
                priority=priority,
            )
        )

    def submit(
        self,
        texts: Iterable[object],
        options: Options = None,
        *,
        job: str | None = None,
        deadline_s: float | None = None,
        priority: Priority | str = Priority.NORMAL,
        wait_if_full: bool = False,
    ) -> Submission:
        """See `Client.submit`."""
        return self._run(
            self._client.submit(
                texts,
                options,
                job=job,
                deadline_s=deadline_s,
                priority=priority,
                wait_if_full=wait_if_full,
            )
        )

    def result(self, job: str, *, timeout_s: float | None = None, consume: bool = False) -> Reply:
        """See `Client.result`."""
        return self._run(self._client.result(job, timeout_s=timeout_s, consume=consume))

    def embed_many(
        self,
        batches: Iterable[Iterable[object]],
        options: Options = None,
        *,
        max_in_flight: int = 16,
        consume: bool = True,
        deadline_s: float | None = None,
        priority: Priority | str = Priority.NORMAL,
    ) -> Iterator[Reply]:
        """See `Client.embed_many`."""
        thread = self._opened()
        replies = self._client.embed_many(
            batches,
            options,
            max_in_flight=max_in_flight,
            consume=consume,
            deadline_s=deadline_s,
            priority=priority,
        )
        try:
            while True:
                try:
                    yield thread.run(_next(replies))
                except StopAsyncIteration:
                    return
        finally:
            with suppress(ClientClosed):  # what was left has ended with the client
                thread.run(_end(replies))

    def num_workers(self) -> int:
        """See `Client.num_workers`."""
        return self._run(self._client.num_workers())

    def cancel(self, job: str) -> bool:
        """See `Client.cancel`."""
        return self._run(self._client.cancel(job))

    def cancel_run(self, run: str) -> RunCancelled:
        """See `Client.cancel_run`."""
        return self._run(self._client.cancel_run(run))

    def dead_letters(self, *, max_dead_letters: int = 100) -> list[DeadLetter]:
        """See `Client.dead_letters`."""
        return self._run(self._client.dead_letters(max_dead_letters=max_dead_letters))

    def dead_letter(self, job: str) -> tuple[DeadLetter, Request | None]:
        """See `Client.dead_letter`."""
        return self._run(self._client.dead_letter(job))

    def requeue(self, job: str) -> bool:
        """See `Client.requeue`."""
        return self._run(self._client.requeue(job))

    def drop(self, job: str) -> bool:
        """See `Client.drop`."""
        return self._run(self._client.drop(job))

    def requeue_all(self, *, code: str | None = None) -> Sequence[str]:
        """See `Client.requeue_all`."""
        return self._run(self._client.requeue_all(code=code))

    def drop_all(self, *, code: str | None = None) -> Sequence[str]:
        """See `Client.drop_all`."""
        return self._run(self._client.drop_all(code=code))

    def jobs(
        self,
        *,
        state: JobState | str | None = None,
        run: str | None = None,
        priority: Priority | str | None = None,
        min_age_s: float = 0.0,
        max_jobs: int = 100,
    ) -> list[QueuedJob]:
        """See `Client.jobs`."""
        return self._run(
            self._client.jobs(state=state, run=run, priority=priority, min_age_s=min_age_s, max_jobs=max_jobs)
        )

    def wait_for_run(self, run: str, *, timeout_s: float | None = None) -> int:
        """See `Client.wait_for_run`."""
        return self._run(self._client.wait_for_run(run, timeout_s=timeout_s))

    def purge(self, *, run: str | None = None) -> RunCancelled:
        """See `Client.purge`."""
        return self._run(self._client.purge(run=run))

    def pause(self, *, for_s: float | None = None) -> None:
        """See `Client.pause`."""
        self._run(self._client.pause(for_s=for_s))

    def resume(self) -> bool:
        """See `Client.resume`."""
        return self._run(self._client.resume())


async def _leave(client: Client) -> None:
    await client.__aexit__(None, None, None)


async def _end(replies: AsyncGenerator[Reply, None]) -> None:
    """A coroutine of its own, since that of `aclose` cannot be dropped unrun."""
    await replies.aclose()


async def _next(replies: AsyncIterator[Reply]) -> Reply:
    return await anext(replies)


_clients: WeakSet[SyncClient] = WeakSet()
_inherited: list[LoopThread | None] = []  # not collected: closing one in a fork would disturb the parent's


def _forget_in_fork() -> None:
    """The connections that a forked process inherits are its parent's, and the threads are not there."""
    for client in list(_clients):
        _inherited.append(client._thread)
        client._forget()


os.register_at_fork(after_in_child=_forget_in_fork)
