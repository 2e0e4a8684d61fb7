"""Writes vectors as JSON Lines, one object per line, compressed if its extension says so."""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from producer.contract import Reply
from producer.files.answered import failed_rows
from producer.files.rows import RowBatch
from producer.files.short_floats import short_floats


class JsonLinesWriter:
    """Lines with `id`, `vector` (null if the text failed), `n_tokens`, `truncated`, and the kept columns.

    A float is written with just enough digits to restore its bits. Each batch is compressed on its own, and
    such pieces one behind the other are what decompressors take for one file.
    """

    def __init__(self, stream: BinaryIO, compress: Callable[[bytes], bytes] = lambda lines: lines) -> None:
        self._stream = stream
        self._compress = compress

    def write(self, rows: RowBatch, reply: Reply) -> None:
        """Append a line for each row. Raises OSError."""
        failed, truncated = failed_rows(reply).tolist(), set(reply.truncated.tolist())
        vectors = reply.vectors
        if np.issubdtype(vectors.dtype, np.floating):
            vectors = short_floats(vectors)
        kept = _kept_rows(rows)
        lines = []
        for index, (row_id, num_tokens) in enumerate(zip(rows.ids, reply.token_counts.tolist(), strict=True)):
            line = {
                "id": row_id,
                "vector": None if failed[index] else vectors[index].tolist(),
                "n_tokens": num_tokens,
                "truncated": index in truncated,
                **next(kept),
            }
            lines.append(json.dumps(line, separators=(",", ":"), default=_plain))
        self._stream.write(self._compress("".join(f"{line}\n" for line in lines).encode()))

    def resume(self, earlier: BinaryIO) -> None:
        """Do nothing: appending needs no state."""

    def finish(self, description: str) -> None:
        """Do nothing: the format has no place for a description."""

    def abandon(self) -> None:
        """Do nothing: there is nothing to release."""


def gzipped(lines: bytes) -> bytes:
    """The lines as a member of a gzip file, without a time, so that equal rows make equal files."""
    return gzip.compress(lines, compresslevel=6, mtime=0)


def zstd_compressed(lines: bytes) -> bytes:
    """The lines as a frame of a zstd file; needs pyarrow."""
    import pyarrow as pa

    return bytes(pa.Codec("zstd").compress(lines))


def _kept_rows(rows: RowBatch) -> Iterator[dict[str, Any]]:
    if rows.kept is None:
        return iter([{}] * len(rows.ids))
    kept: list[dict[str, Any]] = rows.kept.to_pylist()
    return iter(kept)


def _plain(value: object) -> object:
    """What JSON has no type for: bytes in base64, all else (times, decimals) as text."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
