"""What the queue's counter of bytes holds beside the answers that are kept: the texts of unanswered jobs."""

from collections.abc import Iterable
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from producer.contract import Keys


async def text_bytes(redis: AsyncRedis, keys: Keys) -> int:
    """The bytes of texts that are pending or running, as they are counted."""
    counted: Any = redis.hget(keys.totals, "bytes")
    return _without(await counted, await redis.zrange(keys.answers, 0, -1))


def text_bytes_now(redis: Redis, keys: Keys) -> int:
    """The same, for a blocking client."""
    answers: Any = redis.zrange(keys.answers, 0, -1)
    return _without(redis.hget(keys.totals, "bytes"), answers)


def _without(counted: Any, answers: Iterable[Any]) -> int:
    return int(counted or 0) - sum(int(answer.split()[0]) for answer in answers)
