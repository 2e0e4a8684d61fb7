"""Picks texts, ids and kept columns out of JSON objects, which have no schema."""

import json
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from producer.contract import UnreadableText
from producer.errors import FileError
from producer.tables.columns import Columns, missing_column
from producer.tables.json_types import TypedColumn
from producer.tables.json_values import JsonRow
from producer.tables.pyarrow_edge import import_pyarrow
from producer.tables.table import Chunk, Id, IdType, printable
from producer.tables.template import Template

_ABSENT = object()
_INT64, _UINT64 = range(-(2**63), 2**63), range(2**64)
Get = Callable[[dict[str, Any]], Any]


class JsonColumns:
    """The wanted columns of a file, as its first rows, `sample`, show them: names, type of ids, kept types.

    A row that does not fit them fails alone. Raises FileError for a column that no row of the sample has.
    """

    def __init__(self, sample: Sequence[JsonRow], location: str, columns: Columns) -> None:
        self._location = location
        objects = [row for row in sample if isinstance(row, dict)]
        if sample and not objects:
            raise FileError(f"{location}: {_reason(sample)}")
        names = dict.fromkeys(name for row in objects for name in row)
        if objects:
            for option, name in columns.options():
                get = _getter(name)
                if all(get(row) is _ABSENT for row in objects):
                    raise missing_column(location, name, names, option=option)
        self._text = _texts(columns)
        self._id_name = columns.chosen_id(names)
        self._id = None if self._id_name is None else _getter(self._id_name)
        self._late_ids = () if self._id else tuple(n for n in ("id", "_id") if columns.chosen_id([n]))
        self.id_type: IdType = self._type_of_ids(objects, columns.id_type)
        self._is_text_wanted = columns.id_type == "string"
        self._kept = self._typed_columns(objects, columns.chosen_keep(names))
        self._only = frozenset(names) if columns.keep == "all" else None
        self.notes = tuple(
            f"{location}: no row at the beginning has the column {column.name!r}; it is kept as text"
            for column in self._kept
            if objects and all(_getter(column.name)(row) is _ABSENT for row in objects)
        )

    @property
    def kept_schema(self) -> Any:
        """The schema of the kept columns, None if none are kept."""
        if not self._kept:
            return None
        import pyarrow as pa

        return pa.schema([(printable(column.name), column.type) for column in self._kept])

    def chunk(self, rows: Sequence[JsonRow]) -> Chunk:
        """The columns of these rows."""
        texts = [row if isinstance(row, UnreadableText) else self._text(row) for row in rows]
        objects = [row if isinstance(row, dict) else {} for row in rows]
        ids = self._ids(objects, texts)
        if not self._kept:
            return Chunk(ids, texts)
        self._refuse_new_columns(objects, texts)
        import pyarrow as pa

        arrays = [column.array(_values(column.name, objects), texts) for column in self._kept]
        return Chunk(ids, texts, pa.RecordBatch.from_arrays(arrays, schema=self.kept_schema))

    def _ids(self, rows: Sequence[dict[str, Any]], texts: list[Any]) -> list[Id] | None:
        if self._id is None or self._id_name is None:
            self._refuse_late_ids(rows)
            return None
        ids: list[Id] = []
        for at, value in enumerate(_values(self._id_name, rows)):
            row_id = self._id_of(value)
            if row_id is None and value is not None:
                texts[at] = UnreadableText(
                    f"its id is a JSON {type(value).__name__}, but those of the first rows are integers "
                    f"({self.id_type}); give --id-type string"
                )
            ids.append(row_id)
        return ids

    def _id_of(self, value: Any) -> Id:
        """An id as it is kept, None if it does not fit the type of the ids."""
        if self.id_type != "string":
            fits = type(value) is int and value in (_INT64 if self.id_type == "int64" else _UINT64)
            return value if fits else None
        if value is None or (type(value) is int and not self._is_text_wanted):
            return value
        return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))

    def _type_of_ids(self, objects: Sequence[dict[str, Any]], wanted: IdType | None) -> IdType:
        if self._id is None:
            return "int64"
        if wanted is not None:
            return wanted
        found = [value for row in objects if (value := self._id(row)) is not None and value is not _ABSENT]
        if not found or any(type(value) is not int for value in found):
            return "string"
        if all(value in _INT64 for value in found):
            return "int64"
        return "uint64" if all(value in _UINT64 for value in found) else "string"

    def _typed_columns(self, objects: Sequence[dict[str, Any]], names: Sequence[str]) -> list[TypedColumn]:
        if names:
            import_pyarrow(self._location)
        return [TypedColumn.of(name, _values(name, objects)) for name in names]

    def _refuse_late_ids(self, rows: Sequence[dict[str, Any]]) -> None:
        for name in self._late_ids:
            if any(name in row for row in rows):
                raise FileError(
                    f"{self._location}: a later row has {name!r}, but the first rows have none, so that "
                    f"the rows are numbered; give --id-column {name} and let a row with it come first"
                )

    def _refuse_new_columns(self, rows: Sequence[dict[str, Any]], texts: list[Any]) -> None:
        if self._only is None or self._only.issuperset(chain(*rows)):
            return
        for at, row in enumerate(rows):
            if not row.keys() <= self._only:
                name = next(name for name in row if name not in self._only)
                texts[at] = UnreadableText(
                    f"no row at the beginning of the file has its column {name!r}, so it would be lost; "
                    "name the columns to keep with --keep-columns"
                )


def _texts(columns: Columns) -> Get:
    if columns.template is None:
        get = _getter(columns.text)
        return lambda row: None if (value := get(row)) is _ABSENT else value
    template = Template.parse(columns.template)
    render = template.renderer()
    getters = [_getter(name) for name in template.names]
    return lambda row: render(None if (value := get(row)) is _ABSENT else value for get in getters)


def _getter(name: str) -> Get:
    """The value of a column, which may be a field of a field; _ABSENT if the row has none."""
    if "." not in name:
        return lambda row: row.get(name, _ABSENT)
    steps = name.split(".")

    def get(row: dict[str, Any]) -> Any:
        if name in row:
            return row[name]
        value: Any = row
        for step in steps:
            value = value.get(step, _ABSENT) if isinstance(value, dict) else _ABSENT
        return value

    return get


def _values(name: str, rows: Sequence[dict[str, Any]]) -> list[Any]:
    if "." not in name:
        return [row.get(name) for row in rows]
    get = _getter(name)
    return [None if (value := get(row)) is _ABSENT else value for row in rows]


def _reason(sample: Sequence[JsonRow]) -> str:
    return next(row.reason for row in sample if isinstance(row, UnreadableText))
