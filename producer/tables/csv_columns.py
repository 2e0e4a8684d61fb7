"""Picks texts, ids and kept columns out of the records of a CSV file, all of which are text."""

from collections.abc import Sequence
from typing import Any

from producer.contract import UnreadableText
from producer.errors import FileError
from producer.tables.columns import Columns, doubled_column, missing_column
from producer.tables.lines import HAS_NUL
from producer.tables.pyarrow_edge import import_pyarrow
from producer.tables.table import Chunk, Id, IdType, printable
from producer.tables.template import Template

CsvRow = Sequence[str] | UnreadableText


class CsvColumns:
    """The wanted columns of one header. Raises FileError if one is missing or doubled."""

    def __init__(self, header: Sequence[str], location: str, columns: Columns, dialect: str) -> None:
        self._header, self._location, self._dialect = header, location, dialect
        self._texts = [
            self._at(name, option) for option, name in columns.options() if option != "--id-column"
        ]
        self._render = Template.parse(columns.template).renderer() if columns.template else None
        id_name = columns.chosen_id(header)
        self._id = None if id_name is None else self._at(id_name, "--id-column")
        self._wanted_id_type = columns.id_type
        self.id_type: IdType = "int64" if id_name is None else columns.id_type or "string"
        names = [name for name in columns.chosen_keep(header) if name or columns.keep != "all"]
        self._kept = [self._at(name, "--keep-columns") for name in names]
        self.kept_schema: Any = None
        if names:
            import_pyarrow(location)
            import pyarrow as pa

            self.kept_schema = pa.schema([(printable(name), pa.string()) for name in names])

    def chunk(self, rows: Sequence[CsvRow]) -> Chunk:
        """The columns of these records."""
        texts = [self._text(row) for row in rows]
        ids = None if self._id is None else self._ids(rows, texts, self._id)
        return Chunk(ids, texts, self._kept_columns(rows))

    def _text(self, row: CsvRow) -> object:
        if isinstance(row, UnreadableText):
            return row
        values = [row[at] if at < len(row) else None for at in self._texts]
        if None in values:
            return UnreadableText(
                f"the record has {len(row)} fields, but the header has {len(self._header)}; check its quotes"
            )
        text = values[0] if self._render is None else self._render(values)
        return HAS_NUL if text is not None and "\0" in text else text

    def _ids(self, rows: Sequence[CsvRow], texts: list[Any], at: int) -> list[Id]:
        given = self._fields(rows, at)
        ids: list[Id] = []
        for number, value in enumerate(given):
            row_id: Id = None if value is None else printable(value)
            if value is not None and self.id_type != "string":
                row_id = int(value) if value.strip().lstrip("-").isdecimal() else None
                if row_id is None:
                    texts[number] = UnreadableText(
                        "its id is no integer; correct it, or give --id-type string"
                    )
            ids.append(row_id)
        return ids

    def _kept_columns(self, rows: Sequence[CsvRow]) -> Any:
        if self.kept_schema is None:
            return None
        import pyarrow as pa

        arrays = [
            pa.array(
                [None if value is None else printable(value) for value in self._fields(rows, at)], pa.string()
            )
            for at in self._kept
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.kept_schema)

    @staticmethod
    def _fields(rows: Sequence[CsvRow], at: int) -> list[str | None]:
        return [None if isinstance(row, UnreadableText) or at >= len(row) else row[at] for row in rows]

    def _at(self, name: str, option: str) -> int:
        found = [number for number, each in enumerate(self._header) if each == name]
        if len(found) > 1:
            raise doubled_column(self._location, name)
        if found:
            return found[0]
        error = missing_column(self._location, name, self._header, option=option)
        raise FileError(f"{error} (read with {self._dialect})")
