"""One dictionary for each dictionary-encoded column of a file, where every batch has its own."""

from collections.abc import Iterable
from typing import Any


class SharedDictionaries:
    """The values of all batches' dictionaries, by the number of their column."""

    def __init__(self, batches: Iterable[Any]) -> None:
        import pyarrow as pa

        self._values: dict[int, Any] = {}
        for batch in batches:
            columns = [
                number for number, kind in enumerate(batch.schema.types) if pa.types.is_dictionary(kind)
            ]
            if not columns:
                return
            for number in columns:
                found = batch.column(number).dictionary
                if number in self._values and not found.equals(self._values[number]):
                    found = pa.chunked_array([self._values[number], found]).unique()
                self._values[number] = found

    def encode(self, batch: Any) -> Any:
        """The batch with these dictionaries; indices are wider if they have to be."""
        import pyarrow as pa
        import pyarrow.compute as pc

        schema, columns = batch.schema, batch.columns
        for number, values in self._values.items():
            field = schema.field(number)
            column = columns[number]
            indices = pc.index_in(column.dictionary_decode(), value_set=values, skip_nulls=True)
            narrow = field.type.index_type
            is_wide = len(values) > 2 ** (narrow.bit_width - (0 if str(narrow)[0] == "u" else 1))
            indices = indices.cast(pa.int32() if is_wide else narrow)
            columns[number] = pa.DictionaryArray.from_arrays(indices, values, ordered=field.type.ordered)
            schema = schema.set(number, field.with_type(columns[number].type))
        return pa.RecordBatch.from_arrays(columns, schema=schema) if self._values else batch
