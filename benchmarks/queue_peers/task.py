"""The job that every queue runs: a text in, as many bytes out as a vector of 384 float32 numbers."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

RESULT_BYTES = 384 * 4
RESULT_KEPT_S = 60
POLL_S = 0.01
AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Peer:
    """One queue, opened: `many` sends all texts and waits for all results; `close` ends its connections."""

    many: Callable[[Sequence[str]], Awaitable[int]]
    close: Callable[[], Awaitable[None]]


def as_bytes(text: str) -> bytes:
    """The result, for a queue that carries bytes."""
    return text.encode()[:1] * RESULT_BYTES


def as_ascii(text: str) -> str:
    """The result, for a queue that carries JSON."""
    return base64.b64encode(as_bytes(text)).decode()


async def gathered(waits: Iterable[Awaitable[bytes | str]]) -> int:
    """How many of them have a result, AT_ONCE at a time: each may hold a connection."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def has_result(wait: Awaitable[bytes | str]) -> bool:
        async with turn:
            return len(await wait) > 0

    return sum(await asyncio.gather(*map(has_result, waits)))


async def nothing() -> None:
    """There is nothing to close."""
