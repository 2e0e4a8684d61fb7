"""Notifies callers when their jobs end, with one subscription per client however many jobs it awaits."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Notifications:
    """The ids of ended jobs, as received from the queue's notification channel.

    Delivery is at most once, so a waiting caller must also check the result key periodically.
    """

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._changed = asyncio.Event()
        self.count = 0  #: messages so far, for any job

    def on_message(self, data: bytes) -> None:
        """Handle a message from the channel: the id of a job that has ended."""
        self.count += 1
        self._changed.set()
        for event in self._watchers.get(data.decode(errors="replace"), ()):
            event.set()

    @contextmanager
    def watching(self, job: str) -> Iterator[asyncio.Event]:
        """An event that is set when a message says that the job has ended."""
        event = asyncio.Event()
        self._watchers[job].add(event)
        try:
            yield event
        finally:
            self._watchers[job].discard(event)
            if not self._watchers[job]:
                del self._watchers[job]

    async def after(self, count: int, *, timeout_s: float) -> None:
        """Wait until `self.count` differs from `count`, at most `timeout_s`."""
        self._changed.clear()
        if self.count == count:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
