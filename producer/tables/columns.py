"""Which columns of an input are its texts, its ids, and kept beside the vectors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from producer.errors import FileError
from producer.tables.table import IdType
from producer.tables.template import Template

KEEP_ALL: Final = "all"
_ID_COLUMNS = ("id", "_id")
_NAMES_LISTED = 50


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

    @property
    def text_names(self) -> tuple[str, ...]:
        """The columns that texts are made of. Raises InvalidOption for a bad template."""
        return (self.text,) if self.template is None else Template.parse(self.template).names

    def chosen_id(self, names: Iterable[str]) -> str | None:
        """The name of the id column in a file of these columns; None if the rows are to be numbered."""
        if self.id is not None:
            return self.id
        known = set(names)
        used = () if self.template is not None else (self.text,)
        return next((name for name in _ID_COLUMNS if name in known and name not in used), None)

    def chosen_keep(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names of the columns to keep of a file of these columns."""
        if self.keep != KEEP_ALL:
            return tuple(dict.fromkeys(self.keep))
        known = tuple(names)
        id_column = self.chosen_id(known)
        return tuple(name for name in known if name != id_column)

    def options(self) -> list[tuple[str, str]]:
        """Every column that was asked for by name, with the option that names it."""
        text = "--text-column" if self.template is None else "--template"
        asked = [(text, name) for name in self.text_names]
        asked += [] if self.id is None else [("--id-column", self.id)]
        return asked


def missing_column(location: str, name: str, known: Iterable[str], *, option: str) -> FileError:
    """The error for a column that a file does not have; it lists those that it has."""
    names = list(known)
    listed = ", ".join(repr(each) for each in names[:_NAMES_LISTED]) or "none"
    more = f" and {len(names) - _NAMES_LISTED} more" if len(names) > _NAMES_LISTED else ""
    return FileError(f"{location}: no column {name!r} (found: {listed}{more}); choose one with {option}")


def doubled_column(location: str, name: str) -> FileError:
    """The error for a name that two columns of a file have."""
    return FileError(f"{location}: two columns are named {name!r}; rename one of them, or choose another")
