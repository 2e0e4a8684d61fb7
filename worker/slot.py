"""One device's worker process: started, watched, and started again when it dies."""

import logging
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

from worker.line import Line
from worker.owner import new_owner
from worker.report import Report

log = logging.getLogger(__name__)

FINAL_STATUSES = range(2, 6)  # usage, profile: the same command ends the same way again
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0


class Slot:
    """Runs `command(owner)` with `environ`, one process at a time, each with an owner name of its own.

    The process's standard input is a socket, its line to us: the other end closes with us.
    `hand_back` is called with the name of each process that has ended.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        command: Callable[[str], Sequence[str]],
        hand_back: Callable[[str], None],
    ) -> None:
        self._environ = environ
        self._command = command
        self._hand_back = hand_back
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Line | None = None
        self.num_starts = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def keep(self) -> int:
        """Start one process after the other until `stop`, or until one cannot serve; the status of the last.

        One that was ready is started again at once, since booting takes its time; one that was not after
        pauses that grow. If none was ready yet, a failure is final.
        """
        any_ready, num_failures = False, 0
        while True:
            owner = new_owner()
            status, ready = self._run_once(owner)
            if status is None:
                return 0
            self._hand_back(owner)
            if self._stopping.is_set():
                return 0 if status == -signal.SIGTERM else status
            any_ready = any_ready or ready
            if status in FINAL_STATUSES or (status > 0 and not any_ready):
                log.error("worker_given_up name=%s status=%d", owner, status)
                return status
            num_failures = 0 if ready else num_failures + 1
            pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (num_failures - 1)) if num_failures else 0.0
            log.warning("worker_died name=%s status=%d restart_in_s=%.1f", owner, status, pause_s)
            self._stopping.wait(pause_s)

    def stop(self) -> None:
        """Start no more, and send SIGTERM to the one that runs."""
        self._stopping.set()
        with self._lock:
            if self._process is not None:
                self._process.terminate()

    def ask(self, *, timeout_s: float) -> tuple[str, Report | None]:
        """The state of the slot, and how its process is if it serves and answers.

        `down` without a process, `starting`, what the process says of itself, or `silent` if it served and
        does not answer any more.
        """
        line = self._line
        if line is None:
            return "down", None
        if not line.is_ready():
            return "down" if line.ended else "starting", None
        report = line.ask(timeout_s=timeout_s)
        if report is not None:
            return report.state, report
        return "down" if line.ended else "silent", None

    def _run_once(self, owner: str) -> tuple[int | None, bool]:
        """The status, None if there was no start, and whether it was ready before it ended."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with self._lock:
                if self._stopping.is_set():
                    return None, False
                self._process = subprocess.Popen(
                    self._command(owner),
                    stdin=theirs.fileno(),
                    env=self._environ,
                    process_group=0,  # Ctrl-C in a terminal is for the parent alone, which forwards it
                )
            theirs.close()
            self.num_starts += 1
            self._line = line = Line(ours)
            status = self._process.wait()
            self._line = None
            return status, line.is_ready()
