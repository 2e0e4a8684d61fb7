"""Reads rows of Parquet and Arrow IPC files batch by batch; the only readers that need pyarrow."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from producer.errors import FileError
from producer.locations.failures import unreadable
from producer.tables.columns import pick_columns
from producer.tables.pyarrow_edge import import_pyarrow
from producer.tables.table import Chunk, Id, IdType, Table, printable

_ROWS_PER_READ = 1024
_FILE_MAGIC = b"ARROW1"


def open_parquet(path: str, *, text_column: str, id_column: str | None) -> Table:
    """Open a Parquet file; its row groups are read piece by piece."""
    import_pyarrow(path)
    from pyarrow import parquet

    with contextlib.ExitStack() as on_error, _readable(path):
        # Without pre-buffering a row group is streamed, whatever its size.
        file = on_error.enter_context(parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20))
        columns = _Columns(file.schema_arrow, path, text_column=text_column, id_column=id_column)
        on_error.pop_all()

    def batches() -> Iterator[Any]:
        read: Iterator[Any] = file.iter_batches(_ROWS_PER_READ, columns=columns.names, use_threads=False)
        return read

    return columns.table(batches, num_rows=file.metadata.num_rows, close=file.close)


def open_arrow(path: str, *, text_column: str, id_column: str | None) -> Table:
    """Open an Arrow IPC file or stream, mapped into memory and not copied."""
    import_pyarrow(path)
    import pyarrow as pa

    with contextlib.ExitStack() as on_error, _readable(path):
        source = on_error.enter_context(contextlib.closing(pa.memory_map(path)))
        is_file = source.read(len(_FILE_MAGIC)) == _FILE_MAGIC
        source.seek(0)
        opened: Any = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        columns = _Columns(opened.schema, path, text_column=text_column, id_column=id_column)
        on_error.pop_all()

    def batches() -> Iterator[Any]:
        whole = map(opened.get_batch, range(opened.num_record_batches)) if is_file else iter(opened)
        for batch in whole:
            for start in range(0, batch.num_rows, _ROWS_PER_READ):
                yield batch.slice(start, _ROWS_PER_READ)

    return columns.table(batches, num_rows=None, close=source.close)


class _Columns:
    """The text and id columns of an Arrow schema; turns their values into texts and ids."""

    def __init__(self, schema: Any, path: str, *, text_column: str, id_column: str | None) -> None:
        self._path = path
        self._text, self._id = pick_columns(
            schema.names, path=path, text_column=text_column, id_column=id_column
        )
        _check_is_text(schema.field(self._text).type, path=path, column=self._text)
        self._id_is_integer = self._id is None or _is_int64(schema.field(self._id).type)
        self._num_read = 0

    @property
    def names(self) -> list[str]:
        return [self._text] if self._id is None else [self._text, self._id]

    def table(
        self, batches: Callable[[], Iterator[Any]], *, num_rows: int | None, close: Callable[[], None]
    ) -> Table:
        id_type: IdType = "int64" if self._id_is_integer else "string"
        return Table(
            chunks=lambda skip: self._chunks(batches, skip),
            id_type=id_type,
            num_rows=num_rows,
            close=close,
        )

    def _chunks(self, batches: Callable[[], Iterator[Any]], skip: int) -> Iterator[Chunk]:
        with _readable(self._path):
            for batch in batches():
                ids, texts = self._ids(batch), _strings(batch.column(self._text))
                self._num_read += batch.num_rows
                if skip < batch.num_rows:
                    yield Chunk(ids[skip:], texts[skip:])
                skip = max(0, skip - batch.num_rows)

    def _ids(self, batch: Any) -> list[Id]:
        if self._id is None:
            return list(range(self._num_read, self._num_read + batch.num_rows))
        values: list[Any] = _strings(batch.column(self._id))
        if self._id_is_integer:
            return values
        return [None if value is None else printable(value) for value in values]


def _check_is_text(kind: Any, *, path: str, column: str) -> None:
    import pyarrow as pa

    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)):
        raise FileError(
            f"{path}: column {column!r} holds {kind}, not text; choose another with --text-column"
        )


def _is_int64(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) and kind != pa.uint64())


def _strings(column: Any) -> list[Any]:
    """Values of a column; bytes that are not UTF-8 become lone surrogates, so that a text fails alone."""
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        raw = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        values = raw.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
