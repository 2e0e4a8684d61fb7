"""Reads the vectors back from files that runs wrote, whichever the format; failed rows are zero."""

import gzip
import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from producer.errors import FileError
from producer.files import OutputFormat

_LINES_AT_ONCE = 1024

Vectors = npt.NDArray[Any]


class UnreadablePart(FileError):
    """A finished part that is not what a run wrote."""


def vectors_in(stream: BinaryIO, kind: str, dimensions: int) -> Iterator[Vectors]:
    """The vectors of a file in order, piece by piece. Raises UnreadablePart if it is damaged."""
    import pyarrow as pa

    try:
        match kind:
            case OutputFormat.PARQUET:
                yield from _parquet(stream, dimensions)
            case OutputFormat.ARROW:
                yield from _arrow(stream, dimensions)
            case OutputFormat.NPY:
                yield np.load(io.BytesIO(stream.read()), allow_pickle=False)
            case OutputFormat.JSONL:
                yield from _jsonl(stream, dimensions)
            case OutputFormat.JSONL_GZ:
                yield from _jsonl(cast("BinaryIO", gzip.GzipFile(fileobj=stream)), dimensions)
            case _:
                # pyarrow's streams cannot read lines themselves.
                lines = io.BufferedReader(pa.CompressedInputStream(stream, "zstd"), 1 << 20)
                yield from _jsonl(lines, dimensions)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UnreadablePart(f"a finished part cannot be read: {error}") from error


def _parquet(stream: BinaryIO, dimensions: int) -> Iterator[Vectors]:
    from pyarrow import parquet

    with parquet.ParquetFile(stream) as file:
        for batch in file.iter_batches(_LINES_AT_ONCE, columns=["vector"], use_threads=False):
            yield _from_column(batch.column("vector"), dimensions)


def _arrow(stream: BinaryIO, dimensions: int) -> Iterator[Vectors]:
    import pyarrow as pa

    file = pa.ipc.open_file(stream)
    for number in range(file.num_record_batches):
        yield _from_column(file.get_batch(number).column("vector"), dimensions)


def _from_column(column: Any, dimensions: int) -> Vectors:
    valid = np.asarray(column.is_valid())
    vectors = np.zeros((len(column), dimensions), column.type.value_type.to_pandas_dtype())
    # Flattening leaves out the vectors that are null.
    vectors[valid] = np.asarray(column.flatten()).reshape(-1, dimensions)
    return vectors


def _jsonl(lines: BinaryIO, dimensions: int) -> Iterator[Vectors]:
    while piece := list(islice(iter(lines.readline, b""), _LINES_AT_ONCE)):
        vectors = (json.loads(line)["vector"] for line in piece)
        yield np.array([vector or [0] * dimensions for vector in vectors])
