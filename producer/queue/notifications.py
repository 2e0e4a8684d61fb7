"""Notifies callers when their jobs end, with one subscription per client however many jobs it awaits."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

_ENDED, _ROOM = b"=", b"+"


class Notifications:
    """What the queue tells one client on its channel: which of its jobs have ended, and that there is room.

    Messages get lost only with the connection. Every caller is woken when it is back, to look for itself, and
    while it is away each looks once in a while.
    """

    def __init__(self) -> None:
        self.client = uuid4().hex[:16]  #: its name on the queue
        self.is_sharded = False
        self.is_connected = False
        self._watchers: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._room = asyncio.Event()

    def use_shard(self) -> None:
        """Be told by sharded messages, which stay on the node of a cluster that holds the queue."""
        self.client, self.is_sharded = f"{self.client}:s", True

    def on_message(self, data: bytes) -> None:
        """Handle a message of the channel; one that nobody of us wrote is ignored."""
        if data[:1] == _ENDED:
            for job in data[1:].decode(errors="replace").split():
                for event in self._watchers.get(job, ()):
                    event.set()
        elif data == _ROOM:
            self._room.set()

    def on_connection(self, is_connected: bool) -> None:
        """Handle the loss of the connection, or its return."""
        self.is_connected = is_connected
        if is_connected:
            self._room.set()
            for events in self._watchers.values():
                for event in events:
                    event.set()

    @contextmanager
    def watching(self, job: str) -> Iterator[asyncio.Event]:
        """An event that is set when a message says that the job has ended, or messages may have been lost."""
        event = asyncio.Event()
        self._watchers[job].add(event)
        try:
            yield event
        finally:
            self._watchers[job].discard(event)
            if not self._watchers[job]:
                del self._watchers[job]

    def forget_room(self) -> None:
        """Wait for messages that come from now on."""
        self._room.clear()

    async def room(self, *, timeout_s: float) -> None:
        """Wait until a message says that there is room, at most `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._room.wait()
