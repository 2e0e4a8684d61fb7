"""A file that one process at a time holds, among all that share the cache."""

import fcntl
import logging
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


def locked(path: Path, *, waiting: str) -> BinaryIO:
    """The open file, held until it is closed or the process ends; logs `waiting` if another has it now.

    Raises OSError if the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise
    return file
