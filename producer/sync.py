"""The client for code without an event loop: blocking calls, run in a thread with a loop."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Self

from producer.client import Client
from producer.contract import EmbedOptions, Reply, Request
from producer.queue.cancel import RunCancelled
from producer.queue.dead_letters import DeadLetter
from producer.queue.enqueue import Priority, Submission
from producer.transport.connect import DEFAULT_URL
from producer.transport.loop_thread import LoopThread


class SyncClient:
    """`Client` behind blocking calls, with the same names, arguments and errors; a context manager.

    Keyword arguments are `Client`'s. Safe to share between threads.
    """

    def __init__(self, redis_url: str = DEFAULT_URL, *, model: str, **options: Any) -> None:
        self._thread = LoopThread("embedmill-client")
        try:
            self._client = self._thread.run(_open(redis_url, model, options))
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

    def submit(self, texts: Sequence[object], options: EmbedOptions | None = None, **how: Any) -> Submission:
        """See `Client.submit`, whose keyword arguments it takes."""
        return self._thread.run(self._client.submit(texts, options, **how))

    def result(self, job: str, *, timeout_s: float | None = None, consume: bool = False) -> Reply:
        """See `Client.result`."""
        return self._thread.run(self._client.result(job, timeout_s=timeout_s, consume=consume))

    def embed_many(
        self, batches: Iterable[Sequence[object]], options: EmbedOptions | None = None, **how: Any
    ) -> Iterator[Reply]:
        """See `Client.embed_many`, whose keyword arguments it takes."""
        replies = self._client.embed_many(batches, options, **how)
        try:
            while True:
                try:
                    yield self._thread.run(_next(replies))
                except StopAsyncIteration:
                    return
        finally:
            self._thread.run(replies.aclose())

    def cancel(self, job: str) -> bool:
        """See `Client.cancel`."""
        return self._thread.run(self._client.cancel(job))

    def cancel_run(self, run: str) -> RunCancelled:
        """See `Client.cancel_run`."""
        return self._thread.run(self._client.cancel_run(run))

    def dead_letters(self, *, max_letters: int = 100) -> list[DeadLetter]:
        """See `Client.dead_letters`."""
        return self._thread.run(self._client.dead_letters(max_letters=max_letters))

    def dead_letter(self, job: str) -> tuple[DeadLetter, Request | None]:
        """See `Client.dead_letter`."""
        return self._thread.run(self._client.dead_letter(job))

    def requeue(self, job: str) -> bool:
        """See `Client.requeue`."""
        return self._thread.run(self._client.requeue(job))

    def drop(self, job: str) -> bool:
        """See `Client.drop`."""
        return self._thread.run(self._client.drop(job))


async def _open(redis_url: str, model: str, options: dict[str, Any]) -> Client:
    return await Client(redis_url, model=model, **options).__aenter__()


async def _next(replies: AsyncIterator[Reply]) -> Reply:
    return await anext(replies)
