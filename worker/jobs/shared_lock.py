"""A fair asyncio shared/exclusive lock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SharedLock:
    """Any number of holders share it, or one has it alone; served in order of arrival, so none starves."""

    def __init__(self) -> None:
        self._turnstile = asyncio.Lock()  # first come, first served
        self._num_sharing = 0
        self._unshared = asyncio.Event()
        self._unshared.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Hold the lock together with other shared holders."""
        async with self._turnstile:
            self._num_sharing += 1
            self._unshared.clear()
        try:
            yield
        finally:
            self._num_sharing -= 1
            if self._num_sharing == 0:
                self._unshared.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold the lock alone: wait until all holders have left, while later arrivals wait."""
        async with self._turnstile:
            await self._unshared.wait()
            yield
