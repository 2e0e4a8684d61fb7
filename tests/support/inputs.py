"""Reads small inputs as a run would, for tests."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from producer.contract import UnreadableText
from producer.files import Columns, Dialect, RowBatch, open_reader
from producer.files.rows import Id


def batches_of(path: Path, dialect: Dialect | None = None, **columns: Any) -> list[RowBatch]:
    """All batches of a file, of three rows at most."""
    given = Columns(**columns)
    with open_reader(str(path), columns=given, dialect=dialect or Dialect()) as reader:
        return list(reader.batches(max_texts=3, max_bytes=10_000))


def rows_in(path: Path, dialect: Dialect | None = None, **columns: Any) -> list[tuple[Id, object]]:
    """Ids and texts; of a text that cannot be read, why."""
    return [
        (row_id, f"! {text.reason}" if isinstance(text, UnreadableText) else text)
        for batch in batches_of(path, dialect, **columns)
        for row_id, text in zip(batch.ids, batch.texts, strict=True)
    ]


def kept_of(path: Path, *names: str, **columns: Any) -> pa.Table:
    """The kept columns of a file, all of them if none are named."""
    batches = batches_of(path, keep=names or "all", **columns)
    return pa.Table.from_batches([batch.kept for batch in batches])


def notes_of(path: Path, dialect: Dialect | None = None, **columns: Any) -> str:
    """What is said about a file when it is opened."""
    with open_reader(str(path), columns=Columns(**columns), dialect=dialect or Dialect()) as reader:
        return "\n".join(reader.notes)
