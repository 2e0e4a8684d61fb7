"""Picks texts, ids and kept columns out of the batches of a typed file."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from producer.errors import FileError
from producer.locations.failures import unreadable
from producer.tables.arrow_values import Values, id_values, plain_values, text_values
from producer.tables.columns import Columns, doubled_column, missing_column
from producer.tables.table import Chunk, Id, IdType
from producer.tables.template import Template


class ArrowColumns:
    """The wanted columns of one schema. Raises FileError if one is missing, doubled or of another kind."""

    def __init__(self, schema: Any, location: str, columns: Columns) -> None:
        import pyarrow as pa

        self._schema, self._location = schema, location
        self._texts = [
            self._path(name, option) for option, name in columns.options() if option != "--id-column"
        ]
        self._values = None if columns.template else self._text_values(columns.text)
        self._render = Template.parse(columns.template).renderer() if columns.template else None
        id_name = columns.chosen_id(schema.names)
        self._id = None if id_name is None else self._path(id_name, "--id-column")
        self._id_values, self.id_type = self._how_to_read_ids(id_name)
        keep = columns.chosen_keep(schema.names)
        self._kept = [self._path(name, "--keep-columns") for name in keep]
        fields = [self._field(path).with_name(name) for path, name in zip(self._kept, keep, strict=True)]
        self.kept_schema: Any = pa.schema(fields) if fields else None

    @property
    def names(self) -> list[str]:
        """The top-level columns to read."""
        paths = [*self._texts, *([] if self._id is None else [self._id]), *self._kept]
        return list(dict.fromkeys(path[0] for path in paths))

    def chunks(self, batches: Iterable[Any], skip: int) -> Iterator[Chunk]:
        """The rows of all batches but the first `skip`. Raises FileError if the file turns out damaged."""
        with readable(self._location):
            for batch in batches:
                if skip < batch.num_rows:
                    yield self._chunk(batch.slice(skip) if skip else batch)
                skip = max(0, skip - batch.num_rows)

    def _chunk(self, batch: Any) -> Chunk:
        import pyarrow as pa

        ids: list[Id] | None = None
        if self._id is not None:
            ids = self._id_values(_column(batch, self._id))
        kept = None
        if self._kept:
            arrays = [_column(batch, path) for path in self._kept]
            kept = pa.RecordBatch.from_arrays(arrays, schema=self.kept_schema)
        return Chunk(ids, self._texts_of(batch), kept)

    def _texts_of(self, batch: Any) -> list[object]:
        if self._values is not None:
            return self._values(_column(batch, self._texts[0]))
        assert self._render is not None
        columns = [plain_values(_column(batch, path)) for path in self._texts]
        return [self._render(row) for row in zip(*columns, strict=True)]

    def _text_values(self, name: str) -> Values:
        kind = self._field(self._texts[0]).type
        values = text_values(kind)
        if values is None:
            raise FileError(
                f"{self._location}: column {name!r} holds {kind}, not text; choose another with "
                f"--text-column, "
                f"or print it with --template '{{{name}}}'"
            )
        return values

    def _how_to_read_ids(self, name: str | None) -> tuple[Values, IdType]:
        if self._id is None:
            return list, "int64"
        kind = self._field(self._id).type
        found = id_values(kind)
        if found is None:
            raise FileError(
                f"{self._location}: column {name!r} holds {kind}, which is no id; choose another with "
                "--id-column"
            )
        return found

    def _path(self, name: str, option: str) -> tuple[str, ...]:
        """Where a column is: its name, or those from a column of the file down to a field of it."""
        import pyarrow as pa

        number = len(self._schema.get_all_field_indices(name))
        if number > 1:
            raise doubled_column(self._location, name)
        if number == 1:
            return (name,)
        for end in (at for at, character in enumerate(name) if character == "."):
            if self._schema.get_all_field_indices(name[:end])[1:]:
                raise doubled_column(self._location, name[:end])
            path = (name[:end], *name[end + 1 :].split("."))
            kind = self._schema.field(path[0]).type if path[0] in self._schema.names else pa.null()
            for step in path[1:]:
                is_there = pa.types.is_struct(kind) and kind.get_field_index(step) >= 0
                kind = kind.field(step).type if is_there else pa.null()
            if not pa.types.is_null(kind):
                return path
        raise missing_column(self._location, name, self._schema.names, option=option)

    def _field(self, path: tuple[str, ...]) -> Any:
        field = self._schema.field(path[0])
        for step in path[1:]:
            field = field.type.field(step).with_nullable(True)  # null where what it lies in is null
        return field


@contextlib.contextmanager
def readable(location: str) -> Iterator[None]:
    """Turn whatever pyarrow raises on a damaged file into FileError."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, UnicodeError, OverflowError) as error:
        raise unreadable(location, error) from error


def _column(batch: Any, path: tuple[str, ...]) -> Any:
    import pyarrow.compute as pc

    column = batch.column(path[0])
    return pc.struct_field(column, list(path[1:])) if len(path) > 1 else column
