"""Notices that a stage of the worker or its event loop hangs."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from worker.telemetry.activity import Activity, Hang, Stage, Work

_LOOKS = 20  # within the least time that a stage may take
_LATE = 4  # looks: a thread that is this late had no processor, nor had the others


class Watchdog:
    """Watches the oldest work of every stage, and whether the event loop it is created in still turns.

    Once something hangs, `hung` is true and `on_hang` is called in the watching thread.
    """

    def __init__(self, activity: Activity) -> None:
        self.hung = False
        self._activity = activity
        self._loop = asyncio.get_running_loop()
        self._every_s = activity.floor_s / _LOOKS
        self._turning: Work | None = None  # until the loop has come round to end it
        self._spared = False
        self._closed = threading.Event()

    def start(self, on_hang: Callable[[Hang], None]) -> None:
        """Begin to watch, from a thread of its own."""
        threading.Thread(target=self._watch, args=(on_hang,), name="embedmill-watchdog", daemon=True).start()

    def spare_loop(self) -> None:
        """Let the event loop stand still from now on: it does when the worker ends, waiting for threads."""
        self._spared = True
        if (turning := self._turning) is not None:
            self._pong(turning)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()

    def _watch(self, on_hang: Callable[[Hang], None]) -> None:
        looked_s = time.monotonic()
        while not self._closed.wait(self._every_s):
            now_s = time.monotonic()
            if now_s - looked_s > _LATE * self._every_s:  # stopped, suspended, or starved
                self._activity.excuse(now_s - looked_s)
            looked_s = now_s
            self._ping()
            hang = self._activity.hang()
            if hang is not None and not self._closed.is_set():
                self.hung = True
                on_hang(hang)
                return

    def _ping(self) -> None:
        """Ask the loop to come round; if it does not, that is work that does not end."""
        if self._turning is None and not self._spared:
            # Later than what holds the loop up, if that is noted as a stage and so known better.
            turning = self._turning = self._activity.begin(Stage.LOOP, extra_s=2 * self._every_s)
            with suppress(RuntimeError):  # the loop is closed, so the worker ends
                self._loop.call_soon_threadsafe(self._pong, turning)
            if self._spared:  # just now
                self._pong(turning)

    def _pong(self, turning: Work) -> None:
        if self._turning is turning:
            self._activity.end(turning)
            self._turning = None
