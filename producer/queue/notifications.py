"""Who waits for which job: one subscription a client, whatever the number of jobs."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Notifications:
    """Finished job ids as the queue's channel names them.

    Publish is at-most-once: whoever waits looks at the result key himself now and then.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._changed = asyncio.Event()
        self.count = 0  #: messages so far, of whatever job

    def on_message(self, data: bytes) -> None:
        """A message of the channel: the id of a job that is done."""
        self.count += 1
        self._changed.set()
        for event in self._waiting.get(data.decode(), ()):
            event.set()

    @contextmanager
    def watching(self, job: str) -> Iterator[asyncio.Event]:
        """An event that is set when the job is said to be done."""
        event = asyncio.Event()
        self._waiting[job].add(event)
        try:
            yield event
        finally:
            self._waiting[job].discard(event)
            if not self._waiting[job]:
                del self._waiting[job]

    async def after(self, count: int, *, timeout_s: float) -> None:
        """Wait until `count` has changed, at most so long."""
        self._changed.clear()
        if self.count == count:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
