"""Digests of rows, by which a later run knows what it has embedded before."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.contract import Reply
from producer.files import RowBatch

#: One row of an output: digests of its id (zero if it has none) and its text, its tokens, and how it ended.
ROW = np.dtype([("id", "<u8", 2), ("text", "<u8", 2), ("tokens", "<i4"), ("flags", "<i4")])
FAILED, TRUNCATED = 1, 2
_DIGEST_BYTES = 16
_NONE = bytes(_DIGEST_BYTES)
RowFacts = npt.NDArray[Any]  # of type ROW
Digests = npt.NDArray[np.uint64]  # (n, 2)


def digests_of(batch: RowBatch) -> RowFacts:
    """The digests of a batch; tokens and flags are still to be filled in."""
    rows = np.zeros(len(batch.ids), ROW)
    rows["text"] = _digests(map(_text_bytes, batch.texts)).reshape(-1, 2)
    if not batch.is_numbered:
        rows["id"] = _digests(map(_id_bytes, batch.ids)).reshape(-1, 2)
    return rows


def with_answers(rows: RowFacts, reply: Reply) -> RowFacts:
    """The rows with what the reply says of them."""
    rows["tokens"] = reply.token_counts
    rows["flags"][reply.truncated] |= TRUNCATED
    rows["flags"][[failure.index for failure in reply.failures]] |= FAILED
    return rows


def content_of(rows: RowFacts) -> Digests:
    """One digest a row, of id and text together."""
    return np.asarray(rows["id"] ^ rows["text"], np.uint64)


class DigestIndex:
    """Finds digests among many, each with a number that belongs to it; 24 bytes a digest."""

    def __init__(self, digests: Digests, numbers: npt.NDArray[np.int64]) -> None:
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        self._high = np.ascontiguousarray(digests[order, 0])
        self._low = np.ascontiguousarray(digests[order, 1])
        self._numbers = numbers[order]

    def __len__(self) -> int:
        return len(self._high)

    def find(self, digests: Digests) -> npt.NDArray[np.int64]:
        """The number of each digest, -1 for those that are not there."""
        if not len(self):
            return np.full(len(digests), -1, np.int64)
        # Two digests that agree in one half but not in the other are too rare to matter: one is not found.
        at = np.minimum(np.searchsorted(self._high, digests[:, 0]), len(self) - 1)
        is_there = (self._high[at] == digests[:, 0]) & (self._low[at] == digests[:, 1])
        return np.where(is_there, self._numbers[at], -1)


class SeenIds:
    """The ids of a run so far, in 16 bytes each."""

    def __init__(self) -> None:
        self._levels: list[Digests] = []  # each sorted, and at most half as long as the one before it

    def add(self, ids: Digests) -> npt.NDArray[np.bool_]:
        """Add ids; true for each that was there before, or is repeated within them."""
        order = np.lexsort((ids[:, 1], ids[:, 0]))
        ordered = ids[order]
        again = np.zeros(len(ids), np.bool_)
        again[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)  # lexsort is stable: the first stays
        for level in self._levels:
            at = np.minimum(np.searchsorted(level[:, 0], ids[:, 0]), len(level) - 1)
            again |= (level[at] == ids).all(axis=1)
        self._insert(ordered)
        return again

    def _insert(self, ordered: Digests) -> None:
        while self._levels and len(self._levels[-1]) < 2 * len(ordered):
            both = np.concatenate([self._levels.pop(), ordered])
            ordered = both[np.lexsort((both[:, 1], both[:, 0]))]
        if len(ordered):
            self._levels.append(ordered)


def _digests(values: Iterable[bytes]) -> Digests:
    joined = b"".join(
        blake2b(value, digest_size=_DIGEST_BYTES).digest() if value else _NONE for value in values
    )
    return np.frombuffer(joined, np.uint64)


def _text_bytes(text: object) -> bytes:
    # Every value begins with its kind, so that none is empty and a number is not its own spelling.
    if isinstance(text, str):
        return b"s" + text.encode("utf-8", "surrogatepass")
    return f"{type(text).__name__} {text!r}".encode("utf-8", "surrogatepass")


def _id_bytes(row_id: object) -> bytes:
    """Empty for no id, whose digest is zero: then the text alone tells the row."""
    return b"" if row_id is None else _text_bytes(row_id)
