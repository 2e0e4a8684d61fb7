"""Runs a program in a private directory, with its output in a log, and ends it with its owner."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from os import killpg
from pathlib import Path

from producer.embedded import watcher

_POLL_S = 0.02
_LAST_LINES = 20
_LAST_BYTES = 16384


class Child:
    """A running program under a watcher process, which ends it when this process dies, even by SIGKILL.

    `directory` is created with mode 0700 and removed at the end; the program's output goes to a log in it.
    """

    def __init__(
        self,
        command: Callable[[Path], Sequence[str]],
        *,
        env: Mapping[str, str] | None = None,
        grace_s: float,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="embedmill-"))
        self._log = self.directory / "log"
        self._grace_s = grace_s
        watched = [str(self.directory), str(grace_s), *command(self.directory)]
        with self._log.open("wb") as log:
            # In a new session: Ctrl-C in a terminal reaches only us, and we end the child cleanly.
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", watcher.__file__, *watched],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    @property
    def status(self) -> int | None:
        """The program's exit status, None while it runs."""
        return self._watcher.poll()

    def wait_until(self, is_ready: Callable[[], bool], *, timeout_s: float) -> bool:
        """True once `is_ready` returns True; False if the program ends first, or after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.status is None:
            if is_ready():
                return True
            time.sleep(_POLL_S)
        return False

    def logged(self, words: str) -> bool:
        """True if `words` are in a line that the program has printed."""
        with self._log.open(encoding="utf-8", errors="replace") as log:
            return any(words in line for line in log)

    def last_lines(self) -> str:
        """The last lines that the program printed."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _LAST_BYTES))
            return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-_LAST_LINES:])

    def end(self) -> None:
        """Ask it to stop, kill it after the grace period, and remove its directory."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        try:
            self._watcher.wait(self._grace_s + 5)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                killpg(self._watcher.pid, signal.SIGKILL)
            self._watcher.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
