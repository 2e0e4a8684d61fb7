"""An event loop in its own thread, for synchronous code that calls asynchronous clients."""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from producer.errors import ClientClosed

_END_S = 10.0  # for a cancelled coroutine to end

_Result = TypeVar("_Result")


class LoopThread:
    """Runs coroutines for synchronous callers; any number of threads may call at once.

    Once it is closed, and in a forked process, where the thread does not exist, calls raise ClientClosed
    instead of waiting for ever.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._lock = threading.Lock()  # a coroutine is accepted before the loop is stopped, or not at all
        self._closing = False
        self._abandoned = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Wait for the coroutine and return its result; its exceptions pass through.

        An exception in the waiting thread, such as KeyboardInterrupt, cancels the coroutine.
        """
        try:
            self._check()
            with self._lock:
                self._check()
                ended = threading.Event()
                future = asyncio.run_coroutine_threadsafe(_telling(ended, coroutine), self._loop)
        except ClientClosed:
            coroutine.close()
            raise
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if self._closing:
                raise ClientClosed("the client was closed during the call") from None
            raise
        except BaseException:  # Ctrl-C ends the wait, and must end what was waited for
            if not future.done():
                future.cancel()
                ended.wait(_END_S)
            raise

    def close(self) -> None:
        """End what still runs, stop the loop and end the thread; calling it twice is fine."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._closing:
                return
            self._closing = True
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def abandon(self, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a last coroutine and end the thread, without waiting for either: for finalizers."""
        if self._pid != os.getpid() or self._closing:
            return
        self._closing = self._abandoned = True
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._finish(finish)))

    async def _finish(self, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await finish()
        finally:
            self._loop.stop()

    def _serve(self) -> None:
        self._loop.run_forever()
        if self._abandoned:  # else whoever closes it does
            self._loop.close()

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise ClientClosed("this belongs to the parent process: its thread does not exist in a fork")
        if self._closing:
            raise ClientClosed("the client is closed; open another one")
        if threading.current_thread() is self._thread:
            raise ClientClosed(
                "a blocking call from within the client's own thread would wait for itself; "
                "a generator of batches must not call the client that reads it"
            )


async def _telling(ended: threading.Event, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """The coroutine's result; `ended` is set once it has ended."""
    try:
        return await coroutine
    finally:
        ended.set()


async def _cancel_others() -> None:
    """Cancel every other task of the loop and wait until they have ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
