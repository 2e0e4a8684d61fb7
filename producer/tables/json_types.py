"""The Arrow type of a column of JSON values, found out from the first of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from producer.contract import UnreadableText


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """A kept column: its name, its Arrow type, and whether values of other types are kept as JSON text.

    `keeps_all` is false of a value with a field that the type lacks: Arrow would leave it out without a word.
    """

    name: str
    type: Any
    holds_json: bool
    keeps_all: Callable[[Any], bool] | None = None

    @classmethod
    def of(cls, name: str, values: Sequence[Any]) -> "TypedColumn":
        """The column of these values: typed if all have one type, else text, the rest of it JSON."""
        import pyarrow as pa

        try:
            kind = pa.array(values).type
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            kind = pa.null()
        if pa.types.is_null(kind) or _is_without_type(kind):
            return cls(name, pa.string(), holds_json=True)
        return cls(name, kind, holds_json=False, keeps_all=_keeper(kind))

    def array(self, values: list[Any], texts: list[Any]) -> Any:
        """The values as an Arrow array; one that does not fit is null, and its text an UnreadableText."""
        import pyarrow as pa

        if self.holds_json:
            values = [_json_text(value) for value in values]
        try:
            array = pa.array(values, type=self.type)
            if self.keeps_all is None or all(map(self.keeps_all, values)):
                return array
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            pass
        for at, value in enumerate(values):
            if not self._fits(value):
                values[at] = None
                texts[at] = UnreadableText(
                    f"its column {self.name!r} does not hold {self.type}, as in the first rows; correct it, "
                    "or leave the column out of --keep-columns"
                )
        return pa.array(values, type=self.type)

    def _fits(self, value: Any) -> bool:
        import pyarrow as pa

        try:
            pa.array([value], type=self.type)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            return False
        return self.keeps_all is None or self.keeps_all(value)


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _keeper(kind: Any) -> Callable[[Any], bool] | None:
    """The `keeps_all` of a type; None if every value that has the type keeps all."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        item = _keeper(kind.value_type)
        return None if item is None else lambda values: values is None or all(map(item, values))
    if not pa.types.is_struct(kind):
        return None
    names = frozenset(field.name for field in kind)
    inner = {field.name: keeper for field in kind if (keeper := _keeper(field.type)) is not None}
    if not inner:
        return lambda value: value is None or value.keys() <= names
    return lambda value: (
        value is None
        or (value.keys() <= names and all(keeps(value.get(name)) for name, keeps in inner.items()))
    )


def _is_without_type(kind: Any) -> bool:
    """True for types that say nothing, such as a list of nothing or an object without fields."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return _is_without_type(kind.value_type)
    if pa.types.is_struct(kind):
        fields = [kind.field(number).type for number in range(kind.num_fields)]
        return not fields or any(map(_is_without_type, fields))
    return bool(pa.types.is_null(kind))
