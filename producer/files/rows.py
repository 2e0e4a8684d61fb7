"""Rows: what every input format comes down to, an id and what stands in the text column."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Id = int | str | None  #: None where the id column is empty
IdType = Literal["int64", "string"]


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Consecutive rows: `ids[i]` and `texts[i]` belong to row number `first` + i, counted from 0.

    A text is whatever the file holds there: a failed row is the client's finding, not the reader's.
    """

    first: int
    ids: list[Id]
    texts: list[object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An opened file: its rows, read as they are asked for.

    `num_rows` is None where the file does not say it; then `fraction_read` tells how much of its bytes is
    behind us, 0 to 1, None where that is unknown too. `stop` may be called from another thread
    to end a read that waits for input; `close` frees the file.
    """

    rows: Iterator[tuple[Id, object]]
    id_type: IdType
    num_rows: int | None
    fraction_read: Callable[[], float | None]
    stop: Callable[[], None]
    close: Callable[[], None]


def in_batches(
    rows: Iterable[tuple[Id, object]], *, first: int = 0, max_texts: int, max_bytes: int
) -> Iterator[RowBatch]:
    """Cut rows, of which the first has the number `first`, into batches within both bounds, in order.

    A text above `max_bytes` makes a batch alone.
    """
    num_bytes = 0
    ids: list[Id] = []
    texts: list[object] = []
    for row_id, text in rows:
        size = _num_bytes(text)
        if texts and (len(texts) == max_texts or num_bytes + size > max_bytes):
            yield RowBatch(first, ids, texts)
            first, num_bytes, ids, texts = first + len(ids), 0, [], []
        ids.append(row_id)
        texts.append(text)
        num_bytes += size
    if texts:
        yield RowBatch(first, ids, texts)


def printable(row_id: object) -> str:
    """An id as text that any file can hold: lone surrogates become escapes."""
    return str(row_id).encode("utf-8", "backslashreplace").decode()


def _num_bytes(text: object) -> int:
    if not isinstance(text, str):
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
