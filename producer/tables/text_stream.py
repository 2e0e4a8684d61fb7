"""Reads bounded lines of a text file, a compressed one or standard input, in any encoding."""

import contextlib
import io
from collections.abc import Iterator
from functools import cached_property
from typing import cast

from producer.errors import FileError
from producer.locations.failures import unreadable
from producer.locations.sources import Source, WaitingInput
from producer.tables.compression import decoder_errors, decompressed
from producer.tables.encoding import UTF_8, sniff_encoding

MAX_LINE_CHARACTERS = 64 * 1024 * 1024


class TextStream:
    """An opened text file, decoded; a byte order mark is left out.

    Bytes that do not decode become lone surrogates, so that a damaged text fails alone. `newline` is as for
    `open`: "\\n" ends lines there only, "" at carriage returns too. Raises FileError, also while it is read.
    """

    def __init__(self, source: Source, *, newline: str, encoding: str | None = None) -> None:
        self.location = source.location
        self.num_characters = 0  #: read so far
        self._size = source.size
        self._newline, self._given = newline, encoding
        self._raw = source.open()
        with contextlib.ExitStack() as on_error, self._readable():
            on_error.callback(self._raw.close)
            self._stream = cast("io.BufferedReader", decompressed(self._raw, source.name))
            on_error.pop_all()

    @cached_property
    def _text(self) -> io.TextIOWrapper:
        """The decoded text; made when it is first asked for, because standard input may have nothing yet."""
        encoding, mark_bytes = sniff_encoding(self._stream.peek(), self._given)
        self._stream.read(mark_bytes)
        return io.TextIOWrapper(self._stream, encoding, "surrogateescape", newline=self._newline)

    def lines(self) -> Iterator[str]:
        """The lines, endings kept; none is over MAX_LINE_CHARACTERS."""
        number = 0
        with self._readable():
            readline = self._text.readline
            while line := readline(MAX_LINE_CHARACTERS + 1):
                number += 1
                self.num_characters += len(line)
                if len(line) > MAX_LINE_CHARACTERS:
                    raise FileError(
                        f"{self.location} line {number}: longer than {MAX_LINE_CHARACTERS} characters; check "
                        "that this is a text file"
                    )
                yield line

    def read(self, num_characters: int) -> str:
        """At most that many characters, "" only at the end."""
        with self._readable():
            piece = self._text.read(num_characters)
        self.num_characters += len(piece)
        return piece

    def notes(self, sample: str) -> tuple[str, ...]:
        """What people should know of the encoding, judged by a sample of the text."""
        with self._readable():
            encoding = self._text.encoding
        if encoding != UTF_8:
            return (f"{self.location}: read as {encoding}",)
        if any("\udc80" <= character <= "\udcff" for character in sample if character > "\ud7ff"):
            return (
                f"{self.location}: not all of it is UTF-8, and rows that are not fail; if it has another "
                "encoding, name it, as in --encoding cp1252",
            )
        return ()

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
        with contextlib.suppress(*decoder_errors()):
            self._stream.close()
        self._raw.close()

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except decoder_errors() as error:
            raise unreadable(self.location, error) from error
