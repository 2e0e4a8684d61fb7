"""Reads sorted sets of any length a page at a time, so that the server is never busy for long."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import Redis

_PAGE = 256


async def pages(redis: Redis, zset: str) -> AsyncIterator[Sequence[bytes]]:
    """The members in order of their scores; those before the place that was reached may come and go."""
    place, num_read = "-inf", 0
    while True:
        found: Any = redis.zrangebyscore(
            zset, place, "+inf", start=num_read, num=_PAGE, withscores=True, score_cast_func=bytes
        )
        page = await found
        yield [member for member, _ in page]
        if len(page) < _PAGE:
            return
        last = page[-1][1]
        num_here = sum(score == last for _, score in page)
        num_read = num_read + num_here if last.decode() == place else num_here
        place = last.decode()
