"""Writes vectors as JSON Lines, one object per line, compressed if its extension says so."""

import base64
import gzip
import json
from collections.abc import Callable, Iterable
from typing import BinaryIO

import numpy as np

from producer.contract import Reply
from producer.files.answered import failed_rows
from producer.files.rows import RowBatch
from producer.files.vector_text import lines_with_vectors


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
        truncated = np.zeros(len(rows.ids), np.bool_)
        truncated[reply.truncated] = True
        before = [f'{{"id":{json.dumps(row_id)},"vector":' for row_id in rows.ids]
        after = [
            f',"n_tokens":{num_tokens},"truncated":{"true" if is_cut else "false"}{kept}}}\n'
            for num_tokens, is_cut, kept in zip(
                reply.token_counts.tolist(), truncated.tolist(), _kept_members(rows), strict=True
            )
        ]
        lines = lines_with_vectors(before, reply.vectors, after, failed=failed_rows(reply))
        self._stream.write(self._compress(lines))

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


def _kept_members(rows: RowBatch) -> Iterable[str]:
    """The kept columns of each row as members of its object, a comma before each."""
    if rows.kept is None or not rows.kept.num_columns:
        return [""] * len(rows.ids)
    encode = json.JSONEncoder(separators=(",", ":"), default=_plain).encode
    return (f",{encode(row)[1:-1]}" for row in rows.kept.to_pylist())


def _plain(value: object) -> object:
    """What JSON has no type for: bytes in base64, all else (times, decimals) as text."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
