"""Pauses a queue: while it lasts no worker claims a job of it; those that run go on."""

from typing import Any

from redis.asyncio import Redis

from producer.contract import Keys
from producer.errors import InvalidOption
from producer.queue.scripts import RESUME

_MAX_PAUSE_S = 10 * 366 * 24 * 3600


class QueuePause:
    """The pause of one queue. redis-py's errors pass through.

    It is a key that every claim looks for, so it outlives workers, and the server if that keeps its data.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def begin(self, *, for_s: float | None = None) -> None:
        """Pause, until `end` or for so long from now; replaces an earlier pause. Raises InvalidOption."""
        if for_s is not None and (type(for_s) not in (int, float) or not 0.001 <= for_s <= _MAX_PAUSE_S):
            raise InvalidOption(f"a pause lasts from 0.001 to {_MAX_PAUSE_S} seconds, not {for_s!r:.60}")
        await self._redis.set(self._keys.paused, 1, px=None if for_s is None else int(for_s * 1000))

    async def end(self) -> bool:
        """End the pause and wake the workers; False if there was none."""
        ended: Any = self._redis.eval(*RESUME.eval_args(self._keys.root))
        return bool(await ended)
