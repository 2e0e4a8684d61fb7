"""Reads bounded lines of a text file, a gzipped one or standard input."""

import gzip
import io
import os
import select
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from producer.errors import FileError
from producer.files.formats import STDIN

MAX_LINE_BYTES = 64 * 1024 * 1024
_POLL_S = 0.2
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class TextStream:
    """An opened text file; `lines` yields it decoded, line endings kept.

    Bytes that are not UTF-8 become lone surrogates, so that a damaged text fails alone.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._waiting: _WaitingInput | None = None
        self._size = 0
        try:
            self._raw = self._open_raw()
        except OSError as error:
            raise unreadable(path, error) from error
        self._stream = (
            cast("BinaryIO", gzip.GzipFile(fileobj=self._raw)) if path.endswith(".gz") else self._raw
        )

    def _open_raw(self) -> BinaryIO:
        if self.path == STDIN:
            self._waiting = _WaitingInput(sys.stdin.fileno())
            return io.BufferedReader(self._waiting)
        raw = open(self.path, "rb")  # noqa: SIM115 - closed by close()
        self._size = os.fstat(raw.fileno()).st_size
        return raw

    def lines(self) -> Iterator[str]:
        """The lines. Raises FileError if a read fails, a line is over MAX_LINE_BYTES, or it is UTF-16."""
        number = 0
        try:
            while line := self._stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if number == 1:
                    line = self._without_bom(line)
                if len(line) > MAX_LINE_BYTES:
                    raise FileError(
                        f"{self.path} line {number}: longer than {MAX_LINE_BYTES} bytes; check that this is "
                        "a text file"
                    )
                yield line.decode("utf-8", "surrogateescape")
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(self.path, error) from error

    def fraction_read(self) -> float | None:
        """The share of the file's bytes, compressed or not, that was read; None if the size is unknown."""
        return self._raw.tell() / self._size if self._size else None

    def stop(self) -> None:
        """End a wait for input; may be called from any thread."""
        if self._waiting is not None:
            self._waiting.stopped = True

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._raw.close()

    def _without_bom(self, line: bytes) -> bytes:
        if line.startswith(_UTF16_BOMS):
            raise FileError(f"{self.path}: encoded in UTF-16; convert it to UTF-8, for example with iconv")
        return line.removeprefix(_UTF8_BOM)


def unreadable(path: str, error: BaseException) -> FileError:
    """The error for a file that the operating system or a decoder cannot read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileError(
        f"{path}: cannot be read ({reason}); check that it exists, is complete and that you may read it"
    )


class _WaitingInput(io.RawIOBase):
    """Standard input whose reader can be stopped: otherwise a read from a terminal waits forever."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.stopped = False
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self.stopped:
            if select.select([self._descriptor], [], [], _POLL_S)[0]:
                return os.readv(self._descriptor, [buffer])
        return 0
