"""Opens files with one text a line."""

import contextlib
from collections.abc import Iterator
from itertools import islice

from producer.contract import UnreadableText
from producer.errors import FileError
from producer.locations.sources import STDIN, Source
from producer.tables.columns import KEEP_ALL, Columns
from producer.tables.dialect import Dialect
from producer.tables.table import Chunk, Table
from producer.tables.text_stream import TextStream

ROWS_PER_CHUNK = 256  # small, because standard input may be slow
HAS_NUL = UnreadableText("it has a NUL byte, so the file is damaged or no text; write the row again")


def open_lines(source: Source, columns: Columns, dialect: Dialect) -> Table:
    """Open a file with one text per line; an empty line is an empty text. Rows are numbered."""
    if columns.template or columns.id or columns.keep not in ((), KEEP_ALL):
        raise FileError(
            f"{source.location}: lines of text have no columns; omit --template, --id-column and "
            "--keep-columns, or give --format"
        )
    with contextlib.ExitStack() as on_error:
        stream = TextStream(source, newline="\n", encoding=dialect.encoding)
        on_error.callback(stream.close)
        notes = () if source.location == STDIN else stream.notes("")
        on_error.pop_all()
    return Table(
        chunks=lambda skip: _chunks(islice(stream.lines(), skip, None)),
        id_type="int64",
        fraction_read=stream.fraction_read,
        notes=notes,
        stop=stream.stop,
        close=stream.close,
    )


def _chunks(lines: Iterator[str]) -> Iterator[Chunk]:
    while piece := list(islice(lines, ROWS_PER_CHUNK)):
        yield Chunk(None, [_text(line) for line in piece])


def _text(line: str) -> object:
    return HAS_NUL if "\0" in line else line.removesuffix("\n").removesuffix("\r")
