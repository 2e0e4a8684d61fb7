"""The parent's end of the line to one worker process: whether it serves, and how it is."""

import socket
import threading
import time
from contextlib import suppress

from worker.supervisor.child_channel import READY
from worker.telemetry.report import Report, decode_report

_CHUNK_BYTES = 65536


class Channel:
    """Questions are single bytes, answers lines that begin with the question's number; for any thread.

    `ended` is True once the process was found to have closed its end.
    """

    def __init__(self, ours: socket.socket) -> None:
        self._ours = ours
        self._lock = threading.Lock()
        self._received = b""
        self._question = 0
        self._ready = False
        self.ended = False

    def is_ready(self) -> bool:
        """True if the process has said that it serves, even if it has ended since."""
        with self._lock:
            self._receive(wait_s=0)
            return self._ready

    def ask(self, *, timeout_s: float) -> Report | None:
        """How the process is; None if it does not serve yet, has ended, or does not answer in time."""
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            self._receive(wait_s=0)
            if not self._ready:
                return None
            self._question = (self._question + 1) % 256
            with suppress(OSError):
                self._ours.settimeout(timeout_s)
                self._ours.send(bytes([self._question]))
            while True:
                while b"\n" in self._received:
                    line, _, self._received = self._received.partition(b"\n")
                    number, _, report = line.partition(b" ")
                    if int(number) == self._question:  # others are answers that came too late
                        return decode_report(report)
                if not self._receive(wait_s=deadline_s - time.monotonic()):
                    return None

    def _receive(self, *, wait_s: float) -> bool:
        """Take what has come, after waiting for it; False if nothing came."""
        try:
            self._ours.settimeout(max(0.0, wait_s))
            chunk = self._ours.recv(_CHUNK_BYTES)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError:  # it died with a question unread
            chunk = b""
        self.ended = not chunk
        if not self._ready and chunk.startswith(READY):
            self._ready, self._received = True, chunk[len(READY) :]
        else:
            self._received += chunk
        return bool(chunk)
