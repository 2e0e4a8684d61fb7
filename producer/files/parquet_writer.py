"""Writes vectors as Parquet: fixed-size lists, bounded row groups, the description in the footer."""

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from producer.contract import Reply
from producer.files.rows import Id, IdType, typed_ids

METADATA_KEY = "embedmill"
_MAX_GROUP_ROWS = 16384
_MAX_GROUP_BYTES = 32 * 1024 * 1024


class ParquetWriter:
    """Columns `id`, `vector` (null if the text failed), `n_tokens` int32 and `truncated` bool.

    The description is the value of METADATA_KEY in the footer: `parquet.read_metadata(path).metadata`.
    """

    appends = False  # pyarrow cannot append, and a file without a footer cannot be read

    def __init__(self, stream: BinaryIO, id_type: IdType) -> None:
        self._stream = stream
        self._id_type = id_type
        self._file: Any = None
        self._group: list[Any] = []
        self._group_rows = 0
        self._group_bytes = 0

    def write(self, ids: Sequence[Id], reply: Reply) -> None:
        """Append rows; they reach the disk once a row group is full. Raises OSError."""
        batch = _record_batch(ids, reply, self._id_type)
        if self._file is None:
            self._file = _open(self._stream, batch.schema)
        self._group.append(batch)
        self._group_rows += batch.num_rows
        self._group_bytes += reply.vectors.nbytes
        if self._group_rows >= _MAX_GROUP_ROWS or self._group_bytes >= _MAX_GROUP_BYTES:
            self._flush()

    def resume(self, earlier: BinaryIO) -> None:
        """Copy the row groups of a paused file. Raises OSError."""
        from pyarrow import parquet

        with parquet.ParquetFile(earlier) as file:
            self._file = _open(self._stream, file.schema_arrow)
            for number in range(file.num_row_groups):
                group = file.read_row_group(number)
                self._file.write_table(group, row_group_size=max(1, group.num_rows))

    def pause(self) -> None:
        """Write the last row group and a footer for `resume`; nothing can be appended. Raises OSError."""
        self._flush()
        self._file.close()

    def finish(self, description: str) -> None:
        """Write the last row group and the footer with `description`, a JSON text. Raises OSError."""
        self._flush()
        self._file.add_key_value_metadata({METADATA_KEY: description})
        self._file.close()

    def abandon(self) -> None:
        """Release the stream: otherwise pyarrow would write a footer to it when garbage-collected."""
        if self._file is not None:
            self._file.is_open = False
            self._file = None

    def _flush(self) -> None:
        import pyarrow as pa

        if self._group:
            self._file.write_table(pa.Table.from_batches(self._group), row_group_size=self._group_rows)
        self._group, self._group_rows, self._group_bytes = [], 0, 0


def _record_batch(ids: Sequence[Id], reply: Reply, id_type: IdType) -> Any:
    import pyarrow as pa

    num_rows, dim = reply.vectors.shape
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(reply.vectors).ravel()), dim, mask=pa.array(_failed(reply))
    )
    truncated = np.zeros(num_rows, dtype=np.bool_)
    truncated[reply.truncated] = True
    return pa.record_batch(
        {
            "id": pa.array(typed_ids(ids, id_type), type=pa.type_for_alias(id_type)),
            "vector": vectors,
            "n_tokens": pa.array(reply.token_counts, type=pa.int32()),
            "truncated": pa.array(truncated),
        }
    )


def _failed(reply: Reply) -> npt.NDArray[np.bool_]:
    failed = np.zeros(len(reply.vectors), dtype=np.bool_)
    failed[[failure.index for failure in reply.failures]] = True
    return failed


def _open(stream: BinaryIO, schema: Any) -> Any:
    from pyarrow import parquet

    # Vectors are noise to compression, dictionaries and statistics; ids are not.
    return parquet.ParquetWriter(
        stream, schema, compression={"id": "zstd"}, use_dictionary=False, write_statistics=["id"]
    )
