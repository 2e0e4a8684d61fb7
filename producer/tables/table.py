"""An opened input: where its texts, ids and kept columns come from, whatever its format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Id = int | str | None  #: None if the id is empty
IdType = Literal["int64", "uint64", "string"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows as a format hands them out: `ids[i]`, `texts[i]` and row i of `kept` are one row.

    `ids` is None if the rows are to be numbered, `kept` (a pyarrow.RecordBatch) if no columns are kept.
    A text that is no text may be any value: the client fails that row.
    """

    ids: list[Id] | None
    texts: list[object]
    kept: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An opened file, whose rows are read lazily.

    `chunks(n)` are the rows after the first n; it is called once. `id_type` is the Arrow type of the ids in
    a typed output, `kept_schema` (a pyarrow.Schema) that of the kept columns, None without any. `num_rows` is
    None if the file does not state it; then `fraction_read` gives the share of its bytes read so far, 0 to 1,
    or None if that is unknown too. `notes` are sentences on what was assumed about the file. `stop` may be
    called from another thread to end a read that waits for input; `close` closes the file.
    """

    chunks: Callable[[int], Iterator[Chunk]]
    id_type: IdType
    close: Callable[[], None]
    kept_schema: Any = None
    num_rows: int | None = None
    fraction_read: Callable[[], float | None] = lambda: None
    stop: Callable[[], None] = lambda: None
    notes: tuple[str, ...] = field(default=())


def printable(value: object) -> str:
    """An id or a name as text that can be encoded: lone surrogates become escapes."""
    return str(value).encode("utf-8", "backslashreplace").decode()
