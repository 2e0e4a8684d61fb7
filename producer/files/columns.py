"""Finds the text column and the id column of a file."""

from collections.abc import Iterable

from producer.errors import FileError

ID_COLUMNS = ("id", "_id")


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
