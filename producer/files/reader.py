"""Reads all input formats behind one interface."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from producer.errors import FileError
from producer.files.rows import IdType, RowBatch, in_batches
from producer.locations.sources import STDIN, Source, source_of
from producer.tables.arrow_readers import open_arrow, open_orc, open_parquet
from producer.tables.columns import Columns
from producer.tables.csv_readers import open_csv
from producer.tables.dialect import Dialect
from producer.tables.formats import InputFormat, input_format
from producer.tables.json_readers import open_json, open_jsonl
from producer.tables.lines import open_lines
from producer.tables.table import Chunk, Table

_NEEDS_A_FILE = (InputFormat.PARQUET, InputFormat.ARROW, InputFormat.ORC)

_OPENERS: Mapping[InputFormat, Callable[[Source, Columns, Dialect], Table]] = {
    InputFormat.LINES: open_lines,
    InputFormat.JSONL: open_jsonl,
    InputFormat.JSON: open_json,
    InputFormat.CSV: partial(open_csv, delimiter=","),
    InputFormat.TSV: partial(open_csv, delimiter="\t"),
    InputFormat.PARQUET: open_parquet,
    InputFormat.ARROW: open_arrow,
    InputFormat.ORC: open_orc,
}


class Reader:
    """An opened input; a context manager.

    `id_type` is the Arrow type of its ids in a typed output, `kept_schema` (a pyarrow.Schema) has the kept
    columns, None if none are kept; `notes` are sentences on what was assumed about the file.
    """

    def __init__(self, location: str, table: Table) -> None:
        self.location = location
        self.kept_schema: Any = table.kept_schema
        self.notes = table.notes
        self.id_type: IdType = table.id_type
        self._table = table
        self._num_rows = 0

    def batches(self, *, max_texts: int, max_bytes: int, skip: int = 0) -> Iterator[RowBatch]:
        """The rows after the first `skip`, in order.

        At most one batch and one piece of the file are in memory.
        Raises FileError if the file turns out to be damaged.
        """
        chunks = self._counted(self._table.chunks(skip), skip)
        return in_batches(chunks, first=skip, max_texts=max_texts, max_bytes=max_bytes)

    def estimated_rows(self) -> int | None:
        """The number of all rows, estimated from what was read; None if it cannot be estimated."""
        if self._table.num_rows is not None:
            return self._table.num_rows
        fraction = self._table.fraction_read()
        return round(self._num_rows / fraction) if fraction else None

    def _counted(self, chunks: Iterator[Chunk], skip: int) -> Iterator[Chunk]:
        self._num_rows = skip
        for chunk in chunks:
            self._num_rows += len(chunk.texts)
            yield chunk

    def stop(self) -> None:
        """End a read that waits for input; may be called from any thread."""
        self._table.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()


def open_reader(
    location: str | Source,
    kind: InputFormat | None = None,
    *,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    dialect: Dialect = Dialect(),  # noqa: B008 - frozen
) -> Reader:
    """Open a path, URL or `Source` ("-" is standard input) as `kind`, by default as its extension says.

    Raises FileError on an unknown extension, an unreadable or damaged file, or a missing column.
    """
    source = location if isinstance(location, Source) else source_of(location)
    kind = kind or input_format(source.location, source.name)
    if source.location == STDIN and kind in _NEEDS_A_FILE:
        raise FileError(f"{kind} cannot be read from standard input; give a path")
    return Reader(source.location, _OPENERS[kind](source, columns, dialect))
