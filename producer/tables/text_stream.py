"""Reads bounded lines of a text file, a gzipped one or standard input."""

import zlib
from collections.abc import Iterator

from producer.errors import FileError
from producer.locations.failures import unreadable
from producer.locations.sources import Source, WaitingInput
from producer.tables.compression import decompressed

MAX_LINE_BYTES = 64 * 1024 * 1024
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class TextStream:
    """An opened text file; `lines` yields it decoded, line endings kept.

    Bytes that are not UTF-8 become lone surrogates, so that a damaged text fails alone.
    """

    def __init__(self, source: Source) -> None:
        self.path = source.location
        self._size = source.size
        self._raw = source.open()
        self._stream = decompressed(self._raw, self.path)

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
        waiting = getattr(self._raw, "raw", None)
        if isinstance(waiting, WaitingInput):
            waiting.stopped = True

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._raw.close()

    def _without_bom(self, line: bytes) -> bytes:
        if line.startswith(_UTF16_BOMS):
            raise FileError(f"{self.path}: encoded in UTF-16; convert it to UTF-8, for example with iconv")
        return line.removeprefix(_UTF8_BOM)
