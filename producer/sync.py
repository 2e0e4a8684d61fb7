"""The client for code without an event loop: blocking calls, run in a thread with a loop."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Self

from producer.client import Client
from producer.contract import DEFAULT_PREFIX, EmbedOptions, Reply, Request
from producer.queue.cancel import RunCancelled
from producer.queue.dead_letters import DeadLetter
from producer.queue.enqueue import Priority, QueueLimits, Submission
from producer.transport.connect import DEFAULT_URL
from producer.transport.loop_thread import LoopThread


class SyncClient:
    """`Client` behind blocking calls, with the same names, arguments and errors; a context manager.

    Safe to share between threads.
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
        async def opened() -> Client:  # in the thread's loop, which the client belongs to
            client = Client(
                redis_url,
                model=model,
                prefix=prefix,
                limits=limits,
                keep_result_s=keep_result_s,
                run=run,
                outage_s=outage_s,
            )
            return await client.__aenter__()

        self._thread = LoopThread("embedmill-client")
        try:
            self._client = self._thread.run(opened())
        except BaseException:
            self._thread.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end the thread; calling it twice is fine."""
        if not self._thread.closed:
            try:
                self._thread.run(self._client.__aexit__(None, None, None))
            finally:
                self._thread.close()

    def embed(
        self,
        texts: Sequence[object],
        options: EmbedOptions | None = None,
        *,
        timeout_s: float | None = None,
        priority: Priority | str = Priority.NORMAL,
    ) -> Reply:
        """See `Client.embed`."""
        return self._thread.run(self._client.embed(texts, options, timeout_s=timeout_s, priority=priority))

    def submit(
        self,
        texts: Sequence[object],
        options: EmbedOptions | None = None,
        *,
        job: str | None = None,
        priority: Priority | str = Priority.NORMAL,
        wait_if_full: bool = False,
    ) -> Submission:
        """See `Client.submit`."""
        return self._thread.run(
            self._client.submit(texts, options, job=job, priority=priority, wait_if_full=wait_if_full)
        )

    def result(self, job: str, *, timeout_s: float | None = None, consume: bool = False) -> Reply:
        """See `Client.result`."""
        return self._thread.run(self._client.result(job, timeout_s=timeout_s, consume=consume))

    def embed_many(
        self,
        batches: Iterable[Sequence[object]],
        options: EmbedOptions | None = None,
        *,
        max_in_flight: int = 16,
        consume: bool = True,
        priority: Priority | str = Priority.NORMAL,
    ) -> Iterator[Reply]:
        """See `Client.embed_many`."""
        replies = self._client.embed_many(
            batches, options, max_in_flight=max_in_flight, consume=consume, priority=priority
        )
        try:
            while True:
                try:
                    yield self._thread.run(_next(replies))
                except StopAsyncIteration:
                    return
        finally:
            self._thread.run(replies.aclose())

    def num_workers(self) -> int:
        """See `Client.num_workers`."""
        return self._thread.run(self._client.num_workers())

    def cancel(self, job: str) -> bool:
        """See `Client.cancel`."""
        return self._thread.run(self._client.cancel(job))

    def cancel_run(self, run: str) -> RunCancelled:
        """See `Client.cancel_run`."""
        return self._thread.run(self._client.cancel_run(run))

    def dead_letters(self, *, max_dead_letters: int = 100) -> list[DeadLetter]:
        """See `Client.dead_letters`."""
        return self._thread.run(self._client.dead_letters(max_dead_letters=max_dead_letters))

    def dead_letter(self, job: str) -> tuple[DeadLetter, Request | None]:
        """See `Client.dead_letter`."""
        return self._thread.run(self._client.dead_letter(job))

    def requeue(self, job: str) -> bool:
        """See `Client.requeue`."""
        return self._thread.run(self._client.requeue(job))

    def drop(self, job: str) -> bool:
        """See `Client.drop`."""
        return self._thread.run(self._client.drop(job))


async def _next(replies: AsyncIterator[Reply]) -> Reply:
    return await anext(replies)
