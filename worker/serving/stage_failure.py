"""Ends the worker when one of its threads fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class StageFailure:
    """The first failure of a stage that runs in a thread: reported there, raised in the event loop.

    Create it in a running event loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reported: asyncio.Future[None] = self._loop.create_future()

    def report(self, error: BaseException) -> None:
        """Report a failure, from any thread; only the first one counts."""
        self._loop.call_soon_threadsafe(self._note, error)

    @asynccontextmanager
    async def ends_block(self) -> AsyncIterator[None]:
        """Cancel the block when a failure is reported, and raise it once the block has ended."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(), name="embedmill-stage-failure")
                yield
                watch.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the error itself, not a group around it

    async def _watch(self) -> None:
        await self._reported

    def _note(self, error: BaseException) -> None:
        if not self._reported.done():
            self._reported.set_exception(error)
