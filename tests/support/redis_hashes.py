"""Hash commands with the types that they have: redis-py annotates its sync and its asyncio client as one."""

from typing import Any

from redis.asyncio import Redis


async def hget(redis: Redis, key: str, field: str) -> bytes | None:
    reply: Any = redis.hget(key, field)
    value: bytes | None = await reply
    return value


async def hgetall(redis: Redis, key: str) -> dict[bytes, bytes]:
    reply: Any = redis.hgetall(key)
    fields: dict[bytes, bytes] = await reply
    return fields


async def hset(redis: Redis, key: str, field: str, value: bytes | str | int) -> None:
    anything: Any = value
    reply: Any = redis.hset(key, field, anything)
    await reply


async def hincrby(redis: Redis, key: str, field: str, amount: int) -> None:
    reply: Any = redis.hincrby(key, field, amount)
    await reply
