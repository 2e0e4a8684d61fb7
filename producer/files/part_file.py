"""A file that is written beside its place and appears there whole, or not at all."""

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
    """`path` under construction as `path`.part, in the same directory so that the last step is a rename.

    One run at a time: raises FileError while another one holds the part. What an earlier run left stands
    there until `cut` or `renew`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = part_path(path)
        self.was_there = self._part.exists()  #: an earlier run left it
        self.stream = self._open()

    def cut(self, num_bytes: int) -> None:
        """Keep so much of what stands there, and go on behind it."""
        if os.fstat(self.stream.fileno()).st_size:  # not everything that can be written to can be cut
            self.stream.truncate(num_bytes)
            self.stream.seek(num_bytes)

    def renew(self) -> BinaryIO:
        """Start over in a new file; what stood in the old one can be read from what is returned."""
        earlier = self._part.open("rb")
        with contextlib.ExitStack() as on_error:
            on_error.callback(earlier.close)
            self._part.unlink()
            self.stream.close()
            self.stream = self._open()
            on_error.pop_all()
        return earlier

    def earlier(self) -> BinaryIO:
        """What stands there, to be read."""
        return self._part.open("rb")

    def seal(self) -> int:
        """Everything is on the disk, still under the name of the part; its size in bytes."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        return os.fstat(self.stream.fileno()).st_size

    def leave(self) -> None:
        """Let go of it as it is, for a later run. Does nothing after `publish`."""
        with contextlib.suppress(OSError):
            self.stream.close()

    def publish(self) -> None:
        """Take the place of `path`; only then may others open the part."""
        self._part.replace(self.path)
        self.stream.close()

    def discard(self) -> None:
        """Leave nothing behind; what stood at `path` before stays. Does nothing after `publish`."""
        if self.stream.closed:
            return
        self._part.unlink(missing_ok=True)
        # A full disk refuses the last buffered bytes once more here; they are not wanted any longer.
        with contextlib.suppress(OSError):
            self.stream.close()

    def _open(self) -> BinaryIO:
        with contextlib.ExitStack() as on_error:
            stream = on_error.enter_context(open(self._part, "wb", 1 << 20, opener=_open_untouched))
            self._claim(stream.fileno())
            on_error.pop_all()
        return stream

    def _claim(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The run that held it may have published or discarded it between our two steps.
            is_ours = os.path.samestat(os.fstat(descriptor), self._part.stat())
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        if not is_ours:
            raise FileError(f"{self.path}: another run is writing it; wait for that, or name another file")


def part_path(path: Path) -> Path:
    """Where `path` is under construction."""
    return path.with_name(path.name + PART_SUFFIX)


def _open_untouched(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Translate what the system says while `path` is written into FileError with the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "free some space, or write to another disk"
        elif error.errno in (errno.ENOENT, errno.ENOTDIR):
            advice = "create the directory first"
        else:
            advice = "check that the directory is yours to write to"
        reason = error.strerror or str(error)
        raise FileError(f"{path}: cannot be written ({reason}): {advice}") from error
