"""One run at a time on an output: a lock with an owner and a heartbeat, also where files have no locks."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from producer.datasets.shard import Shard
from producer.datasets.target import LOCKS, Target
from producer.errors import FileError

HEARTBEAT_S = 5.0
_LOST_AFTER_S = 3 * HEARTBEAT_S  # a heartbeat that did not change for so long is that of a dead run
_SETTLE_S = 0.1  # between writing a lock and reading who has it


class RunLock:
    """A file `_locks/all` (`_locks/3-of-8` for a shard) that its owner rewrites every few seconds.

    A thread does so from `take` to `release`. Whether an owner lives is judged by its process if that is of
    this host, else by whether its heartbeat changes while we watch: the clocks of two hosts are never
    compared.
    """

    def __init__(self, target: Target, shard: Shard | None, *, lost_after_s: float = _LOST_AFTER_S) -> None:
        self._target = target
        self._name = f"{LOCKS}/all" if shard is None else f"{LOCKS}/{shard.number}-of-{shard.count}"
        self._shard = shard
        self._lost_after_s = lost_after_s
        self._beats = 0
        self._released = threading.Event()
        self._turn = threading.Lock()  # no heartbeat comes after the release
        self._owner = {
            "owner": secrets.token_hex(8),
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid": os.getpid(),
            "process_start": _process_start(os.getpid()),
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def take(self) -> None:
        """Become the owner, in place of one that died. Raises FileError while another run lives."""
        for _ in range(2):  # a second look sees those who came at the same moment
            for name in self._rivals():
                self._await_end(name)
            self._write()
            time.sleep(_SETTLE_S)
            self.check()
        if rivals := self._rivals():
            self.release()
            self._refuse(rivals[0], self._target.read_json(rivals[0]) or {})
        threading.Thread(target=self._keep_beating, name="run-lock", daemon=True).start()

    def beat(self) -> None:
        """Show that the owner lives. Raises FileError if another run has taken over."""
        self.check()
        self._write()

    def check(self) -> None:
        """Raises FileError unless we are the owner: a run that was thought dead must not write any more."""
        found = self._target.read_json(self._name)
        if found is None or found.get("owner") != self._owner["owner"]:
            self._refuse(self._name, found or {})

    def release(self) -> None:
        """Let the next run begin, unless another has taken over."""
        self._released.set()
        with self._turn:
            found = self._target.read_json(self._name)
            if found is not None and found.get("owner") == self._owner["owner"]:
                self._target.delete(self._name)

    def _keep_beating(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            # What is wrong, `check` says before anything is committed.
            with suppress(FileError), self._turn:
                if not self._released.is_set():
                    self.beat()

    def _write(self) -> None:
        self._beats += 1
        self._target.write_json(self._name, {**self._owner, "beats": self._beats})

    def _rivals(self) -> list[str]:
        """The locks, dead or alive, of runs that write the same parts: two shards of one split do not."""
        locks = self._target.names_in(LOCKS)
        return [
            name
            for name in locks
            if (name == self._name or not self._is_apart(name)) and self._is_other(name)
        ]

    def _is_apart(self, name: str) -> bool:
        return self._shard is not None and name.endswith(f"-of-{self._shard.count}")

    def _is_other(self, name: str) -> bool:
        found = self._target.read_json(name)
        return found is not None and found.get("owner") != self._owner["owner"]

    def _await_end(self, name: str) -> None:
        """Return once the run that holds the lock is known to be dead, and remove its lock."""
        first = self._target.read_json(name)
        if first is None:
            return
        if (lives := _lives(first)) is None:
            deadline = time.monotonic() + self._lost_after_s
            while time.monotonic() < deadline:
                time.sleep(min(0.5, self._lost_after_s))
                now = self._target.read_json(name)
                if now is None:
                    return
                if now != first:
                    self._refuse(name, now)
        elif lives:
            self._refuse(name, first)
        if name != self._name:
            self._target.delete(name)

    def _refuse(self, name: str, holder: Mapping[str, Any]) -> None:
        raise FileError(
            f"{self._target.location}: another run is writing it (process {holder.get('pid')} on "
            f"{holder.get('host')}, since {holder.get('since')}); wait for that run, or choose another output"
        )


def _lives(owner: Mapping[str, Any]) -> bool | None:
    """Whether the owner's process runs; None if it is of another host, boot or container."""
    boot, pid = owner.get("boot"), owner.get("pid")
    if not boot or boot != _boot() or not isinstance(pid, int):
        return None
    return _process_start(pid) == owner.get("process_start")


def _boot() -> str:
    """This boot of this host, and our view of its processes: there a process id has one meaning."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """When the process began, in the kernel's ticks; None if there is none."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in ("Z", "X") else after_name[19]
