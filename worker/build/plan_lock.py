"""One builder at a time for a plan, among all processes that share the cache."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from producer.errors import BackendError

log = logging.getLogger(__name__)


@contextmanager
def only_builder(path: Path) -> Iterator[None]:
    """Hold the lock beside the plan; wait, with a line in the log, while another process builds it.

    The lock goes with the process that held it. Raises BackendError if the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_suffix(".lock").open("ab")
    except OSError as error:
        raise BackendError(
            f"no plan can be built in {path.parent} ({error.strerror}); set EMBEDMILL_CACHE_PATH to a folder "
            "that can be written"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("plan_wait path=%s reason=another process builds it", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
