"""File locks (flock) between processes that share the cache; a lock ends with the process that holds it."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

log = structlog.stdlib.get_logger(__name__)


class FileLock:
    """An advisory lock on a file, initially free; held until it is closed or the process ends.

    Creates the file and its folder. Every method but `close` may raise OSError.
    """

    _descriptor: int | None = None
    waited = False  #: whether `locked` had to wait for another process

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def try_exclusive(self) -> bool:
        """Take the lock for this process alone; False if another process holds it."""
        try:
            self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def exclusive(self) -> None:
        """Take the lock for this process alone, waiting while others hold it."""
        self._lock(fcntl.LOCK_EX)

    def shared(self) -> None:
        """Take the lock together with others that share it, waiting while another holds it alone."""
        self._lock(fcntl.LOCK_SH)

    def close(self) -> None:
        """Release the lock; does nothing if it is closed already."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _lock(self, operation: int) -> None:
        if self._descriptor is None:
            raise ValueError("the lock is closed; open another one")
        fcntl.flock(self._descriptor, operation)


def locked(path: Path, *, waiting: str, reason: str) -> FileLock:
    """Lock the file for this process alone; logs the event `waiting` if it must wait for another process.

    Raises OSError if the file cannot be created or locked.
    """
    lock = FileLock(path)
    try:
        if not lock.try_exclusive():
            log.info(waiting, path=str(path), reason=reason)
            lock.exclusive()
            lock.waited = True
    except BaseException:
        lock.close()
        raise
    return lock
