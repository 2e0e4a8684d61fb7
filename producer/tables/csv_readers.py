"""Opens CSV and TSV files, whatever their dialect."""

import contextlib
import csv
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from producer.contract import UnreadableText
from producer.errors import FileError
from producer.locations.sources import Source
from producer.tables.columns import Columns
from producer.tables.csv_columns import CsvColumns, CsvRow
from producer.tables.dialect import Dialect, FoundDialect, sniff_dialect
from producer.tables.lines import ROWS_PER_CHUNK
from producer.tables.table import Chunk, Table
from producer.tables.text_stream import MAX_LINE_CHARACTERS, TextStream

_SAMPLE_LINES, _SAMPLE_CHARACTERS = 256, 1 << 20


def open_csv(source: Source, columns: Columns, dialect: Dialect, *, delimiter: str) -> Table:
    """Open records under a header, `delimiter` being the usual one; quoted fields may span lines."""
    # The module's limit of 128 KiB would refuse texts that we accept.
    csv.field_size_limit(max(MAX_LINE_CHARACTERS, csv.field_size_limit()))
    with contextlib.ExitStack() as on_error:
        stream = on_error.enter_context(
            contextlib.closing(TextStream(source, newline="", encoding=dialect.encoding))
        )
        lines = stream.lines()
        sample = list(_sample(lines))
        is_whole = len(sample) < _SAMPLE_LINES and sum(map(len, sample)) < _SAMPLE_CHARACTERS
        wanted = [name for _, name in columns.options()]
        found = sniff_dialect(sample, dialect, usual=delimiter, wanted=wanted, is_whole=is_whole)
        every = islice(chain(sample, lines), found.skip_lines, None)
        rows = _rows(every, found, location=source.location)
        header = next(rows, [])
        if isinstance(header, UnreadableText):
            raise FileError(f"{source.location}: the header cannot be read: {header.reason}")
        picked = CsvColumns(header, source.location, columns, found.described())
        on_error.pop_all()

    def chunks(skip: int) -> Iterator[Chunk]:
        wanted_rows = islice(rows, skip, None)
        while piece := list(islice(wanted_rows, ROWS_PER_CHUNK)):
            yield picked.chunk(piece)

    usual = FoundDialect(delimiter=delimiter)
    said = () if found == usual else (f"{source.location}: read with {found.described()}",)
    return Table(
        chunks=chunks,
        id_type=picked.id_type,
        kept_schema=picked.kept_schema,
        fraction_read=stream.fraction_read,
        notes=(*stream.notes("".join(sample)), *said),
        stop=stream.stop,
        close=stream.close,
    )


def _sample(lines: Iterator[str]) -> Iterator[str]:
    num_characters = 0
    for line in islice(lines, _SAMPLE_LINES):
        yield line
        num_characters += len(line)
        if num_characters >= _SAMPLE_CHARACTERS:
            return


def _rows(lines: Iterator[str], dialect: FoundDialect, *, location: str) -> Iterator[CsvRow]:
    """The header and every record but blank lines; a broken record fails alone, if its end can be found."""
    reader = csv.reader(lines, **dialect.options())
    width = 0
    while True:
        begin = reader.line_num + 1
        try:
            record: Sequence[str] | None = next(reader, None)
        except csv.Error as error:
            number = reader.line_num + dialect.skip_lines
            if "end of data" in str(error) or "field larger" in str(error):
                raise FileError(
                    f"{location} line {begin + dialect.skip_lines}: not CSV, a quote opens and is "
                    "not closed; close it, or give another --quote"
                ) from error
            yield UnreadableText(f"line {number} is not CSV ({error}); check its quotes")
            continue
        if record is None:
            return
        if not record:
            continue
        width = width or len(record)
        if len(record) > width and any(record[width:]):
            number = reader.line_num + dialect.skip_lines
            yield UnreadableText(
                f"line {number} has {len(record)} fields, but the header has {width}; quote texts that "
                "contain the delimiter"
            )
        else:
            yield record
