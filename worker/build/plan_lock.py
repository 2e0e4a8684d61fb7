"""One builder at a time for a plan, among all processes that share the cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from producer.errors import BackendError
from worker.cache.lock import locked


@contextmanager
def only_builder(path: Path) -> Iterator[None]:
    """Hold the lock beside the plan; wait, with a line in the log, while another process builds it.

    The lock goes with the process that held it. Raises BackendError if the folder cannot be written.
    """
    try:
        lock = locked(
            path.with_suffix(".lock"), waiting=f"plan_wait path={path} reason=another process builds it"
        )
    except OSError as error:
        raise BackendError(
            f"no plan can be built in {path.parent} ({error.strerror}); set EMBEDMILL_CACHE_PATH to a folder "
            "that can be written"
        ) from error
    with lock:
        yield
