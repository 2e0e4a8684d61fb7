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

    def shared(self) -> "_Sharing":
        """Hold the lock together with other shared holders."""
        return _Sharing(self)

    async def share(self) -> None:
        """Become a shared holder."""
        async with self._turnstile:
            self._num_sharing += 1
            self._unshared.clear()

    def unshare(self) -> None:
        """Leave as a shared holder."""
        self._num_sharing -= 1
        if self._num_sharing == 0:
            self._unshared.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold the lock alone: wait until all holders have left, while later arrivals wait."""
        async with self._turnstile:
            await self._unshared.wait()
            yield


class _Sharing:
    """A shared hold; a generator would cost several times as much, and every job takes one."""

    __slots__ = ("_lock",)

    def __init__(self, lock: SharedLock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        await self._lock.share()

    async def __aexit__(self, *_: object) -> None:
        self._lock.unshare()
