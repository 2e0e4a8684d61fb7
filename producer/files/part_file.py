"""Writes a file beside its path, to which it is renamed when complete: whole or not at all."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from producer.errors import FileError

PART_SUFFIX = ".part"


class PartFile:
    """`path` under construction as `path`.part, in the same directory so that publishing is a rename.

    Locked by one run at a time: raises FileError while another holds it. The content that an earlier run
    left stays until `truncate`. `stream` is open for writing and reading.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = part_path(path)
        self.existed = self._part.exists()  #: an earlier run left it
        self.stream = self._open()

    def truncate(self, num_bytes: int) -> None:
        """Keep the first `num_bytes` bytes, and continue writing after them."""
        if os.fstat(self.stream.fileno()).st_size:  # not everything that can be written can be truncated
            self.stream.truncate(num_bytes)
            self.stream.seek(num_bytes)

    def earlier(self) -> BinaryIO:
        """The current content, opened for reading."""
        return self._part.open("rb")

    def sync(self) -> int:
        """Flush everything to disk, still under the name of the part; returns its size in bytes."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        return os.fstat(self.stream.fileno()).st_size

    def release(self) -> None:
        """Close and unlock the part, and keep it for a later run. Does nothing after `publish`."""
        with contextlib.suppress(OSError):
            self.stream.close()

    def publish(self) -> None:
        """Rename the part to `path`, and only then unlock it."""
        self._part.replace(self.path)
        self.stream.close()

    def discard(self) -> None:
        """Remove the part; the file that was at `path` stays. Does nothing after `publish`."""
        if self.stream.closed:
            return
        self._part.unlink(missing_ok=True)
        # A full disk refuses the last buffered bytes again; they are not needed any more.
        with contextlib.suppress(OSError):
            self.stream.close()

    def _open(self) -> BinaryIO:
        with contextlib.ExitStack() as on_error:
            stream = on_error.enter_context(open(self._part, "w+b", 1 << 20, opener=_open_untouched))
            self._lock(stream.fileno())
            on_error.pop_all()
        return stream

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The run that held it may have published or removed it between open and lock.
            is_ours = os.path.samestat(os.fstat(descriptor), self._part.stat())
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        if not is_ours:
            raise FileError(
                f"{self.path}: another run is writing it; wait for that run, or choose another output path"
            )


def part_path(path: Path) -> Path:
    """The path under which `path` is constructed."""
    return path.with_name(path.name + PART_SUFFIX)


def _open_untouched(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn an OSError while `path` is written into a FileError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "free some space, or write to another disk"
        elif error.errno in (errno.ENOENT, errno.ENOTDIR):
            advice = "create the directory first"
        else:
            advice = "check that you may write to the directory"
        reason = error.strerror or str(error)
        raise FileError(f"{path}: cannot be written ({reason}): {advice}") from error
