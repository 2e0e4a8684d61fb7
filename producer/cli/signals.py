"""SIGINT and SIGTERM while an event loop runs: the first cancels the work, the second ends the process."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupted(BaseException):
    """The work was cancelled by a signal and has ended; `number` is the signal's.

    Not an Exception, like KeyboardInterrupt: nothing went wrong.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def until_interrupted(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Await the work; a first SIGINT or SIGTERM cancels it, and once it has ended raises Interrupted.

    A second signal ends the process at once with the status a shell would report. Main thread only.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    numbers: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        if numbers:
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR)  # a progress bar hides it
            os._exit(128 + number)
        numbers.append(number)
        loop.call_soon_threadsafe(task.cancel)

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        await asyncio.wait({task})
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if numbers and task.cancelled():
        raise Interrupted(numbers[0])
    return task.result()
