"""A file that one process at a time holds, among all that share the cache."""

import fcntl
from pathlib import Path
from typing import BinaryIO

import structlog

log = structlog.stdlib.get_logger(__name__)


def locked(path: Path, *, waiting: str, reason: str) -> BinaryIO:
    """The open file, held until it is closed or the process ends; logs `waiting` if another has it now.

    Raises OSError if the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info(waiting, path=str(path), reason=reason)
            fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise
    return file
