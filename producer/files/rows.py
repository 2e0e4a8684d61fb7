"""Rows of any input format: an id and the value of the text column."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Id = int | str | None  #: None if the id column is empty
IdType = Literal["int64", "string"]


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Consecutive rows: `ids[i]` and `texts[i]` belong to row number `first` + i, counted from 0.

    A text may be any value: the client decides which rows fail, not the reader. `kept` has the kept columns
    of these rows as a `pyarrow.RecordBatch`.
    """

    first: int
    ids: list[Id]
    texts: list[object]
    kept: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An opened file, whose rows are read lazily.

    `num_rows` is None if the file does not state it; then `fraction_read` gives the share of its bytes read
    so far, 0 to 1, or None if that is unknown too. `stop` may be called from another thread to end a read
    that waits for input; `close` closes the file.
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
    """Group rows, numbered from `first`, into batches within both bounds, in order.

    A text over `max_bytes` is a batch by itself.
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
    """An id as text that can be encoded: lone surrogates become escapes."""
    return str(row_id).encode("utf-8", "backslashreplace").decode()


def _num_bytes(text: object) -> int:
    if not isinstance(text, str):
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
