"""The vector cache's store in Redis: a young and an old generation, each a hash."""

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from producer.contract import Keys
from producer.queue.scripts import STORE_VECTORS
from producer.transport.loop_thread import LoopThread
from worker.vector_cache.cache import StoreError

_Result = TypeVar("_Result")


class RedisVectors:
    """Holds at most `max_entries`; drops those neither written nor read while half as many were added.

    `redis` is used only by a separate thread, and closed with it.
    """

    def __init__(self, redis: Redis, keys: Keys, *, max_entries: int) -> None:
        self._redis = redis
        self._keys = keys
        self._max_young = max(1, max_entries // 2)
        self._thread = LoopThread("embedmill-vectors")

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store`."""
        return self._run(self._get(keys))

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """See `Store`."""
        self._run(self._put(keys, values))

    def close(self) -> None:
        """See `Store`."""
        try:
            self._thread.run(self._redis.aclose())
        finally:
            self._thread.close()

    def _run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return self._thread.run(coroutine)
        except (RedisError, OSError) as error:
            raise StoreError(str(error)) from error

    async def _get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        values = await self._read(self._keys.vectors, keys)
        missing = [at for at, value in enumerate(values) if value is None]
        older = await self._read(self._keys.old_vectors, [keys[at] for at in missing])
        found: list[tuple[bytes, bytes]] = []
        for at, value in zip(missing, older, strict=True):
            if value is not None:
                values[at] = value
                found.append((keys[at], value))
        if found:  # in use, so moved to the young generation
            await self._put(*zip(*found, strict=True))
        return values

    async def _put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        entries = [part for entry in zip(keys, values, strict=True) for part in entry]
        await self._redis.execute_command(
            *STORE_VECTORS.command(self._keys.root, str(self._max_young), *entries)
        )

    async def _read(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        values: list[bytes | None] = await self._redis.execute_command("HMGET", name, *keys)
        return values
