"""Opens files of JSON objects: one a line, or in a list."""

import contextlib
from collections.abc import Iterator
from itertools import chain, islice

from producer.errors import FileError
from producer.locations.sources import Source
from producer.tables.columns import Columns
from producer.tables.dialect import Dialect
from producer.tables.json_columns import JsonColumns
from producer.tables.json_values import JsonRow, objects_of_lines, objects_of_stream
from producer.tables.lines import ROWS_PER_CHUNK
from producer.tables.table import Chunk, Table
from producer.tables.text_stream import TextStream

SAMPLE_ROWS = 4096
_SAMPLE_ROWS_WITHOUT_TYPES = 512  # fewer, because standard input may be slow
_SAMPLE_CHARACTERS = 16 << 20
_PIECE_CHARACTERS = 1 << 18


def open_jsonl(source: Source, columns: Columns, dialect: Dialect) -> Table:
    """Open a file with one JSON object per line, leaving out blank lines."""
    with contextlib.ExitStack() as on_error:
        stream = on_error.enter_context(
            contextlib.closing(TextStream(source, newline="\n", encoding=dialect.encoding))
        )
        lines = stream.lines()
        head = list(_until_text(lines))
        if head and head[-1].lstrip().startswith("["):
            raise FileError(f"{source.location}: a JSON list, not an object on each line; give --format json")
        table = _table(stream, objects_of_lines(chain(head, lines)), "".join(head), columns)
        on_error.pop_all()
    return table


def open_json(source: Source, columns: Columns, dialect: Dialect) -> Table:
    """Open a list of objects, or objects one after the other; on lines of their own they fail alone."""
    with contextlib.ExitStack() as on_error:
        stream = on_error.enter_context(
            contextlib.closing(TextStream(source, newline="\n", encoding=dialect.encoding))
        )
        piece = stream.read(_PIECE_CHARACTERS)
        first_line = piece.strip().partition("\n")[0].strip()
        rows: Iterator[JsonRow]
        if first_line.startswith("{") and first_line.endswith("}"):
            rows = objects_of_lines(_lines_from(piece, stream))
        else:
            pieces = chain([piece], iter(lambda: stream.read(_PIECE_CHARACTERS), ""))
            rows = objects_of_stream(lambda: next(pieces, ""), source.location)
        table = _table(stream, rows, piece, columns)
        on_error.pop_all()
    return table


def _table(stream: TextStream, rows: Iterator[JsonRow], text: str, columns: Columns) -> Table:
    sample: list[JsonRow] = []
    for row in islice(rows, SAMPLE_ROWS if columns.keep else _SAMPLE_ROWS_WITHOUT_TYPES):
        sample.append(row)
        if stream.num_characters > _SAMPLE_CHARACTERS:
            break
    picked = JsonColumns(sample, stream.location, columns)

    def chunks(skip: int) -> Iterator[Chunk]:
        wanted = islice(chain(sample, rows), skip, None)
        while piece := list(islice(wanted, ROWS_PER_CHUNK)):
            yield picked.chunk(piece)

    return Table(
        chunks=chunks,
        id_type=picked.id_type,
        kept_schema=picked.kept_schema,
        fraction_read=stream.fraction_read,
        notes=(*stream.notes(text), *picked.notes),
        stop=stream.stop,
        close=stream.close,
    )


def _until_text(lines: Iterator[str]) -> Iterator[str]:
    """The lines up to the first that is not blank."""
    for line in lines:
        yield line
        if not line.isspace():
            return


def _lines_from(piece: str, stream: TextStream) -> Iterator[str]:
    """The lines of a piece that was read, and of what follows."""
    *whole, cut = piece.split("\n")
    yield from (f"{line}\n" for line in whole)
    rest = stream.lines()
    if last := cut + next(rest, ""):
        yield last
    yield from rest
