"""Writes vectors as JSON Lines, one object per line."""

import json
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from producer.contract import Reply
from producer.files.rows import Id
from producer.files.short_floats import short_floats


class JsonLinesWriter:
    """Lines with `id`, `vector` (null if the text failed), `n_tokens` and `truncated`.

    A float is written with just enough digits to restore its bits.
    """

    appends = True

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, ids: Sequence[Id], reply: Reply) -> None:
        """Append a line for each row. Raises OSError."""
        failed = {failure.index for failure in reply.failures}
        truncated = set(reply.truncated.tolist())
        vectors = reply.vectors
        if np.issubdtype(vectors.dtype, np.floating):
            vectors = short_floats(vectors)
        for index, (row_id, num_tokens) in enumerate(zip(ids, reply.token_counts.tolist(), strict=True)):
            line = {
                "id": row_id,
                "vector": None if index in failed else vectors[index].tolist(),
                "n_tokens": num_tokens,
                "truncated": index in truncated,
            }
            self._stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def resume(self, earlier: BinaryIO) -> None:
        """Do nothing: appending needs no state."""

    def pause(self) -> None:
        """Do nothing: a run can resume after any line."""

    def finish(self, description: str) -> None:
        """Do nothing: the format has no place for a description."""

    def abandon(self) -> None:
        """Do nothing: there is nothing to release."""
