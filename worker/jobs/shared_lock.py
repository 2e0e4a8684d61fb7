"""Who may run in this process: any number of jobs together, or one alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SharedLock:
    """Jobs that come after one that waits to be alone wait behind it, so it has its turn."""

    def __init__(self) -> None:
        self._turnstile = asyncio.Lock()  # first come, first served
        self._num_together = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Run beside others, none of which is alone."""
        async with self._turnstile:
            self._num_together += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._num_together -= 1
            if self._num_together == 0:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Run when all others have left and until then let none in."""
        async with self._turnstile:
            await self._empty.wait()
            yield
