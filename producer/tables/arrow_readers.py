"""Opens Parquet, Arrow IPC and ORC files; the only readers that need pyarrow."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producer.errors import FileError
from producer.locations.sources import Source
from producer.tables.arrow_columns import ArrowColumns, readable
from producer.tables.arrow_values import check_column
from producer.tables.columns import Columns
from producer.tables.compression import compression_of, decompressed
from producer.tables.dialect import Dialect
from producer.tables.pyarrow_edge import import_pyarrow
from producer.tables.table import Chunk, Table

_CHUNK_BYTES = 4 << 20
_CHUNK_ROWS = 4096
_IPC_FILE, _FEATHER_1 = b"ARROW1", b"FEA1"


def open_parquet(source: Source, columns: Columns, _dialect: Dialect) -> Table:
    """Open a Parquet file; its row groups are read piece by piece."""
    import_pyarrow(source.location)
    from pyarrow import parquet

    with contextlib.ExitStack() as on_error, readable(source.location):
        raw = on_error.enter_context(contextlib.closing(_seekable(source)))
        # Without pre-buffering a row group is streamed, whatever its size.
        buffer = 1 << 20 if Path(source.address).exists() else 8 << 20
        file = on_error.enter_context(parquet.ParquetFile(raw, pre_buffer=False, buffer_size=buffer))
        picked = ArrowColumns(file.schema_arrow, source.location, columns)
        on_error.pop_all()

    def batches(groups: range) -> Iterator[Any]:
        for group in groups:
            facts = file.metadata.row_group(group)
            row_bytes = facts.total_byte_size // max(1, facts.num_rows)
            rows = max(64, min(_CHUNK_ROWS, _CHUNK_BYTES // max(1, row_bytes)))
            yield from file.iter_batches(rows, row_groups=[group], columns=picked.names, use_threads=False)

    def chunks(skip: int) -> Iterator[Chunk]:
        first = 0
        while first < file.num_row_groups and skip >= file.metadata.row_group(first).num_rows:
            skip -= file.metadata.row_group(first).num_rows
            first += 1
        return picked.chunks(batches(range(first, file.num_row_groups)), skip)

    def close() -> None:
        file.close()
        raw.close()

    return _table(picked, chunks, close, num_rows=file.metadata.num_rows)


def open_arrow(source: Source, columns: Columns, _dialect: Dialect) -> Table:
    """Open an Arrow IPC file or stream; a local one is mapped into memory and not copied."""
    import_pyarrow(source.location)
    import pyarrow as pa

    with contextlib.ExitStack() as on_error, readable(source.location):
        is_local = Path(source.address).is_file() and compression_of(source.name) is None
        raw: Any = pa.memory_map(source.address) if is_local else decompressed(source.open(), source.name)
        on_error.enter_context(contextlib.closing(raw))
        head = raw.read(len(_IPC_FILE)) if is_local else raw.peek(len(_IPC_FILE))[: len(_IPC_FILE)]
        if is_local:
            raw.seek(0)
        _refuse_feather_1(source.location, head)
        is_file = head == _IPC_FILE
        if is_file and not is_local:
            _refuse_compression(source)
        opened: Any = pa.ipc.open_file(raw) if is_file else pa.ipc.open_stream(raw)
        picked = ArrowColumns(opened.schema, source.location, columns)
        on_error.pop_all()

    def batches() -> Iterator[Any]:
        whole = map(opened.get_batch, range(opened.num_record_batches)) if is_file else iter(opened)
        return _in_pieces(map(checked, whole))

    def checked(batch: Any) -> Any:
        for name in picked.names:
            check_column(batch.column(name))
        return batch

    return _table(picked, lambda skip: picked.chunks(batches(), skip), raw.close)


def open_orc(source: Source, columns: Columns, _dialect: Dialect) -> Table:
    """Open an ORC file; one stripe at a time is in memory."""
    import_pyarrow(source.location)
    from pyarrow import orc

    with contextlib.ExitStack() as on_error, readable(source.location):
        raw = on_error.enter_context(contextlib.closing(_seekable(source)))
        file = orc.ORCFile(raw)
        picked = ArrowColumns(file.schema, source.location, columns)
        on_error.pop_all()

    def batches() -> Iterator[Any]:
        return _in_pieces(file.read_stripe(number, columns=picked.names) for number in range(file.nstripes))

    return _table(picked, lambda skip: picked.chunks(batches(), skip), raw.close, num_rows=file.nrows)


def _seekable(source: Source) -> Any:
    """The raw file, for a format that has its own compression and is read from its end."""
    _refuse_compression(source)
    return source.open()


def _refuse_compression(source: Source) -> None:
    packed = compression_of(source.name)
    if packed is not None:
        raise FileError(
            f"{source.location}: this format is compressed inside, and cannot be read through {packed}; "
            "decompress it first"
        )


def _in_pieces(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        for start in range(0, batch.num_rows, _CHUNK_ROWS):
            yield batch.slice(start, _CHUNK_ROWS)


def _refuse_feather_1(location: str, head: bytes) -> None:
    if head.startswith(_FEATHER_1):
        raise FileError(
            f"{location}: Feather version 1, which is no longer read; write it again with version 2, "
            "for example with pandas.DataFrame.to_feather"
        )


def _table(picked: ArrowColumns, chunks: Any, close: Any, *, num_rows: int | None = None) -> Table:
    return Table(
        chunks=chunks,
        id_type=picked.id_type,
        kept_schema=picked.kept_schema,
        num_rows=num_rows,
        close=close,
    )
