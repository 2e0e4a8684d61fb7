"""Starts, watches and restarts the worker process of one device."""

import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from producer.backoff import Backoff
from worker.consumer.handback import new_owner
from worker.telemetry.channel import ParentEnd
from worker.telemetry.report import Report

log = structlog.stdlib.get_logger(__name__)

FINAL_STATUSES = range(2, 6)  # usage or profile errors: the same command would end the same way again
HUNG_STATUS = 6  # the process noticed that it hung, handed its jobs back and ended
_RESTART_BACKOFF = Backoff(first_s=0.5, max_s=30.0)
_POLL_S = 0.25
_ANSWER_S = 2.0
_ASKS = 12  # within the time after which a process that does not answer is killed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exit:
    """How one process ended: its status, and how long it booted and served; None if it never served.

    `hung` is True if it ended because it did, by itself or by us; `reason` is what it said itself about why
    it does not serve.
    """

    status: int
    hung: bool
    reason: str
    boot_s: float
    served_s: float | None

    @property
    def was_stable(self) -> bool:
        """True if it served at least as long as it booted."""
        return self.served_s is not None and self.served_s >= self.boot_s


class WorkerProcess:
    """Runs `command(owner)` in `environment`, one process at a time, each with its own owner name.

    The process's standard input is the other end of a channel to us, which closes when this process ends.
    `hand_back` is called with the owner name of each process that has ended; it returns True if one of its
    jobs was being bisected, in which case a death was to be expected. A process that serves is killed if it
    has not answered for `silent_s`, or has said for as long that it hangs.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        command: Callable[[str], Sequence[str]],
        hand_back: Callable[[str], bool],
        silent_s: float = 60.0,
    ) -> None:
        self._environment = environment
        self._command = command
        self._hand_back = hand_back
        self._silent_s = silent_s
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: ParentEnd | None = None
        self.num_starts = 0
        self.num_hangs = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> int:
        """Run one process after the other until `stop`, or until one cannot serve; returns the last status.

        A process that served for longer than it booted, hung, or was bisecting a job, is restarted at once,
        any other after a pause that doubles each time. As long as none has become ready, a failure is final.
        """
        any_ready, num_failures = False, 0
        while True:
            owner = new_owner()
            ended = self._run_once(owner)
            if ended is None:
                return 0
            status, was_bisecting = ended.status, self._hand_back(owner)
            if self._stopping.is_set():
                return 0 if status == -signal.SIGTERM else status
            any_ready = any_ready or ended.served_s is not None
            if status in FINAL_STATUSES or (status > 0 and not any_ready):
                reason = ended.reason or "its last lines above say why"
                log.error("worker_not_restarted", name=owner, status=status, reason=reason)
                return status
            self.num_hangs += ended.hung
            expected = ended.was_stable or ended.hung or was_bisecting
            num_failures = 0 if expected else num_failures + 1
            pause_s = _RESTART_BACKOFF.pause_s(num_failures) if num_failures else 0.0
            restart = {"hung": ended.hung, "restart_in_s": round(pause_s, 1)}
            log.warning("worker_died", name=owner, status=status, **restart)
            self._stopping.wait(pause_s)

    def stop(self) -> None:
        """Start no more processes, and send SIGTERM to the running one."""
        self._stopping.set()
        with self._lock:
            if self._process is not None:
                self._process.terminate()

    def ask(self, *, timeout_s: float) -> tuple[str, Report | None]:
        """The state of the process, and its report if it serves and answers.

        `down` without a process, `starting`, the state that the process reports, or `silent` if it served
        and no longer answers.
        """
        channel = self._channel
        if channel is None:
            return "down", None
        if not channel.is_ready():
            return "down" if channel.ended else "starting", None
        report = channel.ask(timeout_s=timeout_s)
        if report is not None:
            return report.state, report
        return "down" if channel.ended else "silent", None

    def _run_once(self, owner: str) -> _Exit | None:
        """Run one process to its end; None if none was started because of `stop`."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            started_s = time.monotonic()
            with self._lock:
                if self._stopping.is_set():
                    return None
                self._process = subprocess.Popen(
                    self._command(owner),
                    stdin=theirs.fileno(),
                    env=self._environment,
                    process_group=0,  # Ctrl-C in a terminal reaches only the parent, which forwards it
                )
            theirs.close()
            self.num_starts += 1
            self._channel = channel = ParentEnd(ours)
            ready_s = _wait_until_ready(channel, self._process)
            killed = self._kill_if_silent(channel, self._process, owner)
            status = self._process.wait()
            self._channel = None
            served_s = time.monotonic() - ready_s if channel.is_ready() else None
            hung = killed or status == HUNG_STATUS
            return _Exit(
                status=status,
                hung=hung,
                reason=channel.failure,
                boot_s=ready_s - started_s,
                served_s=served_s,
            )

    def _kill_if_silent(self, channel: ParentEnd, process: subprocess.Popen[bytes], owner: str) -> bool:
        """Watch the process until it has ended, or was killed because it does not move; True if it was.

        It cannot notice by itself that it is frozen, or that native code keeps the interpreter's lock.
        """
        every_s = self._silent_s / _ASKS
        num_unanswered = 0
        while num_unanswered < _ASKS:
            if _has_ended(process, within_s=every_s):
                return False
            report = channel.ask(timeout_s=min(every_s, _ANSWER_S))
            moves = report is not None and report.state != "hung"
            num_unanswered = 0 if moves or not channel.is_ready() else num_unanswered + 1
        log.error("worker_silent", name=owner, seconds=round(self._silent_s, 1), consequence="killed")
        process.kill()
        return True


def _wait_until_ready(channel: ParentEnd, process: subprocess.Popen[bytes]) -> float:
    """Wait until the process serves or has ended; returns the time."""
    while not channel.is_ready():
        if _has_ended(process, within_s=_POLL_S):
            break
    return time.monotonic()


def _has_ended(process: subprocess.Popen[bytes], *, within_s: float) -> bool:
    """True as soon as the process has ended; Popen.wait with a timeout would notice up to 50 ms late."""
    if process.poll() is not None:
        return True
    with suppress(AttributeError, OSError):  # not on this system
        descriptor = os.pidfd_open(process.pid)
        try:
            select.select([descriptor], [], [], within_s)
        finally:
            os.close(descriptor)
        return process.poll() is not None
    with suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    return process.poll() is not None
