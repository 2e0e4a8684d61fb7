"""The socket between a parent and its worker process: both ends, and how the child ends with its parent.

The child's standard input is one end of a socket pair; the parent holds the other. When it serves, the child
writes `READY`; if it ends before that, `FAILED` and the reason. Once it serves, the parent asks with single
bytes, numbers that count up and wrap around, and the child answers each with a line: the number, a space, and
a report. If the parent ends, for whatever reason, the socket closes, which the child notices at once.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from worker.telemetry.report import Report, decode_report, encode_report

log = structlog.stdlib.get_logger(__name__)

READY = b"r"
FAILED = b"f"
_STDIN = 0
_CHUNK_BYTES = 65536
_HAND_BACK_S = 10.0  # for handing back jobs that did not finish in the grace period


class ParentEnd:
    """The parent's end: asks the worker process whether it is serving, and for its report; thread-safe.

    `ended` is True once the process is known to have closed its end.
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

    @property
    def failure(self) -> str:
        """Why the process did not come to serve, as it said itself; empty if it did, or said nothing."""
        with self._lock:
            while self._receive(wait_s=0):
                pass
            said = b"" if self._ready else self._received
            return said.removeprefix(FAILED).decode(errors="replace") if said.startswith(FAILED) else ""

    def ask(self, *, timeout_s: float) -> Report | None:
        """The process's report; None if it does not serve yet, has ended, or does not answer in time."""
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
                    if int(number) == self._question:  # others are late answers to earlier questions
                        return decode_report(report)
                if not self._receive(wait_s=deadline_s - time.monotonic()):
                    return None

    def _receive(self, *, wait_s: float) -> bool:
        """Read what has arrived, waiting for it if need be; False if nothing came."""
        try:
            self._ours.settimeout(max(0.0, wait_s))
            chunk = self._ours.recv(_CHUNK_BYTES)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError:  # the process died with a question unread
            chunk = b""
        self.ended = not chunk
        if not self._ready and chunk.startswith(READY):
            self._ready, self._received = True, chunk[len(READY) :]
        else:
            self._received += chunk
        return bool(chunk)


class ChildEnd:
    """The worker process's end: announces that it serves, answers questions, and ends with its parent.

    Once the parent has gone, the process has `grace_s` and a few seconds more to stop by itself.
    """

    def __init__(self, grace_s: float) -> None:
        self._report: Callable[[], Report] | None = None
        end_with_parent(grace_s=grace_s + _HAND_BACK_S, on_byte=self._answer)

    def announce_ready(self, report: Callable[[], Report]) -> None:
        """Tell the parent that this process serves; `report` answers its questions, from another thread."""
        self._report = report
        with suppress(OSError):  # the parent has gone, which the watching thread notices too
            os.write(_STDIN, READY)

    def announce_failure(self, reason: str) -> None:
        """Tell the parent why this process, which does not serve yet, ends."""
        with suppress(OSError):
            os.write(_STDIN, FAILED + reason.encode()[:_CHUNK_BYTES])

    def _answer(self, question: int) -> None:
        if self._report is None:
            return
        line = b"%d %s\n" % (question, encode_report(self._report()))
        while line:
            line = line[os.write(_STDIN, line) :]


@contextmanager
def watched_input(first_line: str) -> Iterator[int]:
    """A file descriptor for a child's standard input: one line, then open for as long as this process lives.

    For a child that calls `end_with_parent` once it has read the line, which must be short.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(first_line.encode() + b"\n")
        yield theirs.fileno()


def end_with_parent(*, grace_s: float, on_byte: Callable[[int], None] = lambda _: None) -> None:
    """Watch standard input from a thread: when the parent's end closes, send this process SIGTERM.

    After another `grace_s` the process exits with status 1, since a hung one ignores the signal. Each byte
    received before that is passed to `on_byte`. A program that cannot watch its parent itself is started
    under `producer.embedded.watcher` instead.
    """

    def watch() -> None:
        try:
            with suppress(OSError):
                while byte := os.read(_STDIN, 1):
                    on_byte(byte[0])
        finally:
            log.warning("parent_gone")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace_s)
            os._exit(1)

    threading.Thread(target=watch, name="embedmill-parent", daemon=True).start()
