"""Reads all input formats behind one interface."""

from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Self

from producer.errors import FileError
from producer.files.arrow_readers import open_arrow, open_parquet
from producer.files.formats import STDIN, InputFormat, input_format
from producer.files.rows import IdType, RowBatch, Table, in_batches
from producer.files.text_readers import open_csv, open_jsonl, open_lines

_NEEDS_A_FILE = (InputFormat.PARQUET, InputFormat.ARROW)


class Reader:
    """An opened input; a context manager. `id_type` is the Arrow type of its ids."""

    def __init__(self, path: str, table: Table) -> None:
        self.path = path
        self.id_type: IdType = table.id_type
        self._table = table
        self._num_rows = 0

    def batches(self, *, max_texts: int, max_bytes: int, skip: int = 0) -> Iterator[RowBatch]:
        """The rows after the first `skip`, in order.

        At most one batch and one piece of the file are in memory.
        Raises FileError if the file turns out to be damaged.
        """
        for _ in islice(self._table.rows, skip):
            self._num_rows += 1
        rest = in_batches(self._table.rows, first=skip, max_texts=max_texts, max_bytes=max_bytes)
        for rows in rest:
            self._num_rows += len(rows.texts)
            yield rows

    def estimated_rows(self) -> int | None:
        """The number of all rows, estimated from what was read; None if it cannot be estimated."""
        if self._table.num_rows is not None:
            return self._table.num_rows
        fraction = self._table.fraction_read()
        return round(self._num_rows / fraction) if fraction else None

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
    path: str, kind: InputFormat | None = None, *, text_column: str = "text", id_column: str | None = None
) -> Reader:
    """Open `path` ("-" is standard input) as `kind`, by default as its extension says.

    `id_column=None` means `id` or `_id` if there is one, else row numbers from 0.
    Raises FileError on an unknown extension, an unreadable or damaged file, or a missing column.
    """
    kind = kind or input_format(path)
    if path == STDIN and kind in _NEEDS_A_FILE:
        raise FileError(f"{kind} cannot be read from standard input; give a path")
    match kind:
        case InputFormat.LINES:
            table = open_lines(path)
        case InputFormat.JSONL:
            table = open_jsonl(path, text_column=text_column, id_column=id_column)
        case InputFormat.CSV:
            table = open_csv(path, text_column=text_column, id_column=id_column)
        case InputFormat.PARQUET:
            table = open_parquet(path, text_column=text_column, id_column=id_column)
        case InputFormat.ARROW:
            table = open_arrow(path, text_column=text_column, id_column=id_column)
    return Reader(path, table)
