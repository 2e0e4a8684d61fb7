"""Vectors as JSON, one object a line."""

import json
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from producer.contract import Reply
from producer.files.rows import Id
from producer.files.short_floats import short_floats


class JsonLinesWriter:
    """Lines of `id`, `vector` (null where the text failed), `n_tokens`, `truncated`.

    A float has as many digits as bring back its bits.
    """

    appends = True

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, ids: Sequence[Id], reply: Reply) -> None:
        """Add one line a row. Raises OSError."""
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
        """Nothing to know: lines stand for themselves."""

    def pause(self) -> None:
        """Nothing more: a run may go on behind any line."""

    def finish(self, description: str) -> None:
        """Nothing more: lines hold no description."""

    def abandon(self) -> None:
        """Nothing to let go of."""
