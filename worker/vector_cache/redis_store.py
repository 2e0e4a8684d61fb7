"""The vector cache's store in Redis: two hashes that follow each other."""

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from worker.vector_cache.cache import StoreError

# KEYS[1] root of the queue's keys; ARGV most entries of one hash, then key and value of each entry.
# Entries are never deleted one by one: a full hash becomes the old one, and the old one goes.
_PUT = """
local young, old = KEYS[1] .. 'vectors', KEYS[1] .. 'vectors-old'
local added = 0
for i = 2, #ARGV, 2 do
  added = added + redis.call('HSET', young, ARGV[i], ARGV[i + 1])
end
if redis.call('HINCRBY', young, 'count', added) >= tonumber(ARGV[1]) then
  redis.call('UNLINK', old)
  redis.call('RENAME', young, old)
end
"""


class RedisVectors:
    """At most `max_entries`; what was neither written nor read while half of that came is forgotten."""

    def __init__(self, redis: Redis, root: str, *, max_entries: int) -> None:
        self._redis = redis
        self._root = root
        self._max_young = max(1, max_entries // 2)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store`."""
        try:
            values = self._read("vectors", keys)
            missing = [at for at, value in enumerate(values) if value is None]
            found: list[tuple[bytes, bytes]] = []
            for at, value in zip(
                missing, self._read("vectors-old", [keys[at] for at in missing]), strict=True
            ):
                if value is not None:
                    values[at] = value
                    found.append((keys[at], value))
            if found:  # it is used, so it stays
                self.put(*zip(*found, strict=True))
        except (RedisError, OSError) as error:
            raise StoreError(str(error)) from error
        return values

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """See `Store`."""
        entries: list[Any] = [part for entry in zip(keys, values, strict=True) for part in entry]
        try:
            self._redis.eval(_PUT, 1, self._root, str(self._max_young), *entries)
        except (RedisError, OSError) as error:
            raise StoreError(str(error)) from error

    def close(self) -> None:
        """See `Store`."""
        self._redis.close()

    def _read(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        values: Any = self._redis.hmget(self._root + name, list(keys))
        return list(values)
