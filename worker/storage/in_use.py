"""Which models live workers use: each holds a shared lock on a file of its model as long as it lives."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

log = structlog.stdlib.get_logger(__name__)


class Hold:
    """Keeps everything of a model in the cache until it is closed, forgotten, or its process ends.

    Where there can be no lock it holds nothing.
    """

    def __init__(self, cache: Path, model: str) -> None:
        self._descriptor = _open(cache, model)
        if self._descriptor is not None:
            # Waits while it is being removed.
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let go; calling it twice is fine."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


@contextmanager
def unused(cache: Path, model: str) -> Iterator[bool]:
    """True if no live worker uses the model; then none starts to before the block ends."""
    descriptor = _open(cache, model)
    if descriptor is None:
        yield True
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    try:
        yield free
    finally:
        os.close(descriptor)


def _open(cache: Path, model: str) -> int | None:
    name = hashlib.sha256(model.encode()).hexdigest()[:32]
    path = cache / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        log.debug("cache_not_locked", path=str(path), reason=error.strerror)
        return None
