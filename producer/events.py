"""Who waits for which job: one subscription a client, whatever the number of jobs."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError


class Events:
    """Finished job ids as the queue's channel names them.

    Publish is at-most-once: whoever waits looks at the result key himself now and then.
    """

    def __init__(self, redis: Redis, channel: str) -> None:
        self._redis = redis
        self._channel = channel
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Subscribed as long as the block lasts."""
        pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe(self._channel)
        task = asyncio.create_task(self._listen(pubsub), name="embedmill-events")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await pubsub.aclose()  # type: ignore[no-untyped-call]

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

    async def _listen(self, pubsub: PubSub) -> None:
        while True:
            try:
                message = await pubsub.get_message(timeout=None)
            except (RedisError, OSError):
                await asyncio.sleep(0.5)  # the next read reconnects and subscribes again
                continue
            if message is not None:
                for event in self._waiting.get(message["data"].decode(), ()):
                    event.set()
