"""One device's worker process: started, watched, and started again when it dies."""

import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from worker.owner import new_owner
from worker.parent import READY

log = logging.getLogger(__name__)

FINAL_STATUSES = range(2, 6)  # usage, profile: the same command ends the same way again
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """A process that has ended: how, how long it booted, and how long it served; None if it never did."""

    status: int
    boot_s: float
    served_s: float | None

    @property
    def settled(self) -> bool:
        """True if it served at least as long as it booted."""
        return self.served_s is not None and self.served_s >= self.boot_s


class Slot:
    """Runs `command(owner)` with `environ`, one process at a time, each with an owner name of its own.

    The process's standard input is a socket: it writes READY there, and its other end closes with us.
    `hand_back` is called with the name of each process that has ended, and says whether a job was on trial
    there, so that the end is no news.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        command: Callable[[str], Sequence[str]],
        hand_back: Callable[[str], bool],
    ) -> None:
        self._environ = environ
        self._command = command
        self._hand_back = hand_back
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def keep(self) -> int:
        """Start one process after the other until `stop`, or until one cannot serve; the status of the last.

        One that served for longer than it booted, or ran a job on trial, is started again at once; another
        after pauses that grow. If none was ready yet, a failure is final.
        """
        any_ready, num_failures = False, 0
        while True:
            owner = new_owner()
            ended = self._run_once(owner)
            if ended is None:
                return 0
            status, on_trial = ended.status, self._hand_back(owner)
            if self._stopping.is_set():
                return 0 if status == -signal.SIGTERM else status
            any_ready = any_ready or ended.served_s is not None
            if status in FINAL_STATUSES or (status > 0 and not any_ready):
                log.error("worker_given_up name=%s status=%d", owner, status)
                return status
            num_failures = 0 if ended.settled or on_trial else num_failures + 1
            pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (num_failures - 1)) if num_failures else 0.0
            log.warning("worker_died name=%s status=%d restart_in_s=%.1f", owner, status, pause_s)
            self._stopping.wait(pause_s)

    def stop(self) -> None:
        """Start no more, and send SIGTERM to the one that runs."""
        self._stopping.set()
        with self._lock:
            if self._process is not None:
                self._process.terminate()

    def _run_once(self, owner: str) -> _Ended | None:
        """How the process ended; None if there was no start."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            started_s = time.monotonic()
            with self._lock:
                if self._stopping.is_set():
                    return None
                self._process = subprocess.Popen(
                    self._command(owner),
                    stdin=theirs.fileno(),
                    env=self._environ,
                    process_group=0,  # Ctrl-C in a terminal is for the parent alone, which forwards it
                )
            theirs.close()
            ready = _wait_until_ready(ours, self._process)
            ready_s = time.monotonic()
            status = self._process.wait()
            served_s = time.monotonic() - ready_s if ready else None
            return _Ended(status=status, boot_s=ready_s - started_s, served_s=served_s)


def _wait_until_ready(line: socket.socket, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the process says that it is ready, or ends; True if it said so."""
    line.settimeout(_LOOK_S)
    while True:
        ended = process.poll() is not None  # before the last look: what it said is still there
        try:
            return line.recv(1) == READY
        except TimeoutError:  # a process that it started may hold the line open
            if ended:
                return False
        except ConnectionResetError:
            return False
