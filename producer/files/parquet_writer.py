"""Writes vectors as Parquet: fixed-size lists, bounded row groups, the description in the footer."""

from typing import Any, BinaryIO

from producer.contract import Reply
from producer.files.answered import answered_batch
from producer.files.journal import Journal
from producer.files.rows import IdType, RowBatch

METADATA_KEY = "embedmill"
_MAX_GROUP_ROWS = 16384
_MAX_GROUP_BYTES = 32 * 1024 * 1024


class ParquetWriter:
    """Columns `id`, `vector` (null if the text failed), `n_tokens`, `truncated`, and the kept ones.

    The rows lie in `journal` until `finish` makes the file of them. The description is the value of
    METADATA_KEY in the footer: `parquet.read_metadata(path).metadata`.
    """

    def __init__(self, stream: BinaryIO, journal: BinaryIO, id_type: IdType) -> None:
        self._stream = stream
        self._journal = Journal(journal)
        self._id_type = id_type
        self._file: Any = None

    def write(self, rows: RowBatch, reply: Reply) -> None:
        """Append rows to the journal. Raises OSError."""
        self._journal.append(answered_batch(rows, reply, self._id_type))

    def resume(self, earlier: BinaryIO) -> None:
        """Do nothing: the journal needs no state."""

    def finish(self, description: str) -> None:
        """Write all rows, and the footer with `description`, a JSON text. Raises OSError, ValueError."""
        group: list[Any] = []
        num_rows = num_bytes = 0
        for batch in self._journal.batches():
            if self._file is None:
                self._file = _open(self._stream, batch.schema)
            group.append(batch)
            num_rows += batch.num_rows
            num_bytes += batch.nbytes
            if num_rows >= _MAX_GROUP_ROWS or num_bytes >= _MAX_GROUP_BYTES:
                self._write_group(group)
                group, num_rows, num_bytes = [], 0, 0
        if group:
            self._write_group(group)
        self._file.add_key_value_metadata({METADATA_KEY: description})
        self._file.close()

    def abandon(self) -> None:
        """Release the stream: otherwise pyarrow would write a footer to it when garbage-collected."""
        if self._file is not None:
            self._file.is_open = False
            self._file = None

    def _write_group(self, group: list[Any]) -> None:
        import pyarrow as pa

        table = pa.Table.from_batches(group)
        self._file.write_table(table, row_group_size=table.num_rows)


def _open(stream: BinaryIO, schema: Any) -> Any:
    from pyarrow import parquet

    # Vectors are noise to compression, dictionaries and statistics; the other columns are not.
    others = [name for name in schema.names if name not in ("vector", "n_tokens", "truncated")]
    return parquet.ParquetWriter(
        stream,
        schema,
        compression=dict.fromkeys(others, "zstd"),
        use_dictionary=[name for name in others if name != "id"] or False,
        write_statistics=others,
    )
