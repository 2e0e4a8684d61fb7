"""Shows producers that a worker is starting, so that they wait for it however long its model takes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from producer.contract import Keys
from producer.errors import QueueError
from producer.transport.connect import connect, end_tasks
from producer.transport.loop_thread import LoopThread

_EVERY_S = 10.0
_COUNTS_S = 60.0  # longer than loading a library holds up the thread
_LEAVE_S = 2.0


@contextmanager
def announced(redis_url: str, keys: Keys, name: str) -> Iterator[None]:
    """Tell the queue that the worker of that name is starting while the block lasts, from another thread.

    The block neither waits for Redis nor fails without it. Raises SettingsError for a malformed URL.
    """
    redis = connect(redis_url)
    thread = LoopThread("embedmill-starting")
    try:
        task = thread.run(_begin(redis, keys, name))
        try:
            yield
        finally:
            thread.run(_end(task, redis, keys, name))
    finally:
        thread.close()


async def _begin(redis: Redis, keys: Keys, name: str) -> "asyncio.Task[None]":
    return asyncio.create_task(_announce(redis, keys, name), name=f"announces {name}")


async def _announce(redis: Redis, keys: Keys, name: str) -> None:
    lifetime_ms = int(_COUNTS_S * 1000)
    while True:
        with suppress(RedisError, OSError, QueueError):
            seconds, micros = await redis.time()
            now_ms = seconds * 1000 + micros // 1000
            async with redis.pipeline(transaction=True) as pipe:
                pipe.zadd(keys.starting, {name: now_ms + lifetime_ms})
                pipe.zremrangebyscore(keys.starting, "-inf", now_ms)
                pipe.pexpire(keys.starting, lifetime_ms)
                await pipe.execute()
        await asyncio.sleep(_EVERY_S)


async def _end(task: "asyncio.Task[None]", redis: Redis, keys: Keys, name: str) -> None:
    await end_tasks(task)
    with suppress(TimeoutError, RedisError, OSError, QueueError):
        async with asyncio.timeout(_LEAVE_S):
            await redis.zrem(keys.starting, name)
    await redis.aclose()
