"""Which columns of an input are its texts, its ids, and kept beside the vectors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from producer.errors import FileError
from producer.tables.table import IdType

KEEP_ALL: Final = "all"
ID_COLUMNS = ("id", "_id")


@dataclass(frozen=True, slots=True)
class Columns:
    """What to read of every row.

    `text` names the column of the texts; `template`, if given, makes a text of several columns in its place,
    as in "{title}\\n{body}". `id` names the column of the ids, None means `id` or `_id` if there is one, else
    row numbers. `keep` names the columns to keep, KEEP_ALL means all but that of the ids. A name `a.b` is the
    field b of the column a, unless a column has that very name. `id_type` is the type of the ids where the
    file has no types; None finds it out from the first rows.
    """

    text: str = "text"
    template: str | None = None
    id: str | None = None
    keep: tuple[str, ...] | Literal["all"] = ()
    id_type: IdType | None = None


def pick_columns(
    names: Iterable[str], *, path: str, text_column: str, id_column: str | None
) -> tuple[str, str | None]:
    """The text column and the id column; the id column is None if the rows are to be numbered.

    Raises FileError, which lists the columns of the file, if a requested one is missing.
    """
    known = list(names)
    for option, wanted in (("--text-column", text_column), ("--id-column", id_column)):
        if wanted is not None and wanted not in known:
            listed = ", ".join(repr(name) for name in known[:50]) or "none"
            raise FileError(f"{path}: no column {wanted!r} (found: {listed}); choose one with {option}")
    if id_column is not None:
        return text_column, id_column
    found = (name for name in ID_COLUMNS if name in known and name != text_column)
    return text_column, next(found, None)
