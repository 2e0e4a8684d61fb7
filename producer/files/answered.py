"""Answered rows as columns: id, vector, token count, truncation, and what was kept of the input."""

from typing import Any

import numpy as np
import numpy.typing as npt

from producer.contract import Reply
from producer.errors import FileError
from producer.files.rows import IdType, RowBatch, typed_ids

ANSWER_COLUMNS = ("id", "vector", "n_tokens", "truncated")


def answered_batch(rows: RowBatch, reply: Reply, id_type: IdType) -> Any:
    """The rows as a pyarrow.RecordBatch: `id`, `vector` (null if the text failed), `n_tokens` int32,
    `truncated` bool, then the kept columns.
    """
    import pyarrow as pa

    num_rows, dim = reply.vectors.shape
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(reply.vectors).ravel()), dim, mask=pa.array(failed_rows(reply))
    )
    truncated = np.zeros(num_rows, dtype=np.bool_)
    truncated[reply.truncated] = True
    columns = {
        "id": pa.array(typed_ids(rows.ids, id_type), type=pa.type_for_alias(id_type)),
        "vector": vectors,
        "n_tokens": pa.array(reply.token_counts, type=pa.int32()),
        "truncated": pa.array(truncated),
    }
    batch = pa.record_batch(columns)
    if rows.kept is None:
        return batch
    schema = pa.schema([*batch.schema, *rows.kept.schema])
    return pa.RecordBatch.from_arrays([*batch.columns, *rows.kept.columns], schema=schema)


def failed_rows(reply: Reply) -> npt.NDArray[np.bool_]:
    """A mask of the rows without a vector."""
    failed = np.zeros(len(reply.vectors), dtype=np.bool_)
    failed[[failure.index for failure in reply.failures]] = True
    return failed


def check_kept_names(names: list[str], path: str) -> None:
    """Raises FileError if a kept column has the name of one of ours."""
    for name in ANSWER_COLUMNS:
        if name in names:
            raise FileError(
                f"{path}: the output has a column {name!r} of its own, so the input's cannot be kept; rename "
                "it, or choose others with --keep-columns"
            )
