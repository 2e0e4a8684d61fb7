"""Rows of any input, numbered and grouped into bounded batches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from producer.tables.table import Chunk, Id, IdType

__all__ = ["Id", "IdType", "RowBatch", "in_batches", "typed_ids"]


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Consecutive rows: `ids[i]` and `texts[i]` belong to row number `first` + i, counted from 0.

    A text may be any value: the client decides which rows fail, not the reader. `kept`, a pyarrow.RecordBatch
    of as many rows, has the kept columns with their types, None if none are kept. An id has the type that it
    has in the input; `typed_ids` gives those of one type that an Arrow array needs. `is_numbered` is true if
    the input has no ids, so that they are the row numbers.
    """

    first: int
    ids: list[Id]
    texts: list[object]
    kept: Any = None
    is_numbered: bool = False

    def part(self, start: int, end: int) -> "RowBatch":
        """The rows from `start` up to `end`, counted within the batch."""
        if (start, end) == (0, len(self.ids)):
            return self
        kept = None if self.kept is None else self.kept.slice(start, end - start)
        ids, texts = self.ids[start:end], self.texts[start:end]
        return RowBatch(self.first + start, ids, texts, kept, self.is_numbered)


def typed_ids(ids: Iterable[Id], id_type: IdType) -> list[Id]:
    """The ids as a typed column holds them: integers become text if the column also has text."""
    if id_type != "string":
        return list(ids)
    return [str(one) if isinstance(one, int) else one for one in ids]


def in_batches(
    chunks: Iterable[Chunk], *, first: int = 0, max_texts: int, max_bytes: int
) -> Iterator[RowBatch]:
    """Group rows, numbered from `first`, into batches within both bounds, in order.

    A text over `max_bytes` is a batch by itself.
    """
    pieces: list[Chunk] = []
    num_rows = num_bytes = 0
    for chunk in chunks:
        ends = np.cumsum([num_bytes_of(text) for text in chunk.texts])
        start = 0
        while start < len(chunk.texts):
            before = int(ends[start - 1]) if start else 0
            fits = int(np.searchsorted(ends, before + max_bytes - num_bytes, side="right"))
            end = min(fits, start + max_texts - num_rows)
            if end <= start and not pieces:
                end = start + 1
            if end > start:
                pieces.append(_slice(chunk, start, end))
                num_rows += end - start
                num_bytes += int(ends[end - 1]) - before
                start = end
            if start < len(chunk.texts) or num_rows == max_texts:
                yield _joined(pieces, first)
                first, pieces, num_rows, num_bytes = first + num_rows, [], 0, 0
    if pieces:
        yield _joined(pieces, first)


def _slice(chunk: Chunk, start: int, end: int) -> Chunk:
    if start == 0 and end == len(chunk.texts):
        return chunk
    ids = None if chunk.ids is None else chunk.ids[start:end]
    kept = None if chunk.kept is None else chunk.kept.slice(start, end - start)
    return Chunk(ids, chunk.texts[start:end], kept)


def _joined(pieces: list[Chunk], first: int) -> RowBatch:
    texts = [text for piece in pieces for text in piece.texts]
    ids: list[Id] = []
    for piece in pieces:
        numbered = range(first + len(ids), first + len(ids) + len(piece.texts))
        ids.extend(numbered if piece.ids is None else piece.ids)
    kept = _joined_batches([piece.kept for piece in pieces])
    return RowBatch(first, ids, texts, kept, is_numbered=pieces[0].ids is None)


def _joined_batches(batches: list[Any]) -> Any:
    if len(batches) == 1 or batches[0] is None:
        return batches[0]
    import pyarrow as pa

    columns = [
        pa.concat_arrays([batch.column(number) for batch in batches])
        for number in range(batches[0].num_columns)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batches[0].schema)


def num_bytes_of(text: object) -> int:
    if not isinstance(text, str):
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
