"""A worker process's line to its parent: standard input is one end of a socket, the parent has the other."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from worker.telemetry.report import Report, encode_report

log = structlog.stdlib.get_logger(__name__)

READY = b"r"
_LINE = 0
_SLACK_S = 10.0  # to hand back what the grace did not finish


class ChildChannel:
    """Tells the parent that we serve, and how we are whenever it asks.

    The parent's end, by whatever means, is SIGTERM for us, and after the grace the end.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._report: Callable[[], Report] | None = None
        threading.Thread(target=self._watch, name="embedmill-parent", daemon=True).start()

    def tell_ready(self, report: Callable[[], Report]) -> None:
        """Let the parent know that we serve, and what tells how we are."""
        self._report = report
        with suppress(OSError):  # it has gone: the watching thread sees it too
            os.write(_LINE, READY)

    def _watch(self) -> None:
        try:
            with suppress(OSError):
                while question := os.read(_LINE, 1):
                    self._answer(question[0])
        finally:
            log.warning("parent_gone")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(self._grace_s + _SLACK_S)
            os._exit(1)  # a hung event loop hears no signal

    def _answer(self, question: int) -> None:
        """A line of the question's number and the report; nothing before we serve."""
        if self._report is None:
            return
        line = b"%d %s\n" % (question, encode_report(self._report()))
        while line:
            line = line[os.write(_LINE, line) :]
