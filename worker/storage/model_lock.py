"""Tracks which models live workers use: each worker holds a shared lock on a file named after its model."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from worker.storage.lock import FileLock

log = structlog.stdlib.get_logger(__name__)


class ModelLock:
    """Protects a model's part of the cache from `worker cache prune` until closed or the process ends.

    It has no effect where the cache cannot be locked.
    """

    def __init__(self, cache: Path, model: str) -> None:
        self._lock: FileLock | None = None
        path = _lock_path(cache, model)
        try:
            self._lock = FileLock(path)
            self._lock.shared()  # waits while the model is being removed
        except OSError as error:
            _log_unlocked(path, error)

    def close(self) -> None:
        """Stop protecting; does nothing if it is closed already."""
        if self._lock is not None:
            self._lock.close()


@contextmanager
def unused(cache: Path, model: str) -> Iterator[bool]:
    """True if no live worker uses the model; within the block none can start to use it.

    Also True where the cache cannot be locked, as no worker could hold a lock there.
    """
    path = _lock_path(cache, model)
    try:
        lock = FileLock(path)
    except OSError as error:
        _log_unlocked(path, error)
        yield True
        return
    with lock:
        yield lock.try_exclusive()


def _lock_path(cache: Path, model: str) -> Path:
    return cache / "locks" / f"{hashlib.sha256(model.encode()).hexdigest()[:32]}.lock"


def _log_unlocked(path: Path, error: OSError) -> None:
    log.debug("cache_not_locked", path=str(path), reason=error.strerror)
