"""What the values of an Arrow column are as texts and as ids, by the type of the column."""

from collections.abc import Callable
from typing import Any

from producer.tables.table import Id, IdType, printable

Values = Callable[[Any], list[Any]]  # from a column of a batch to Python's values


def text_values(kind: Any) -> Values | None:
    """How to read texts of a column of that type; None if it holds no text.

    Bytes are UTF-8; those that are not become lone surrogates, so that a text fails alone.
    """
    import pyarrow as pa

    kind = _stored(kind)
    if _is_string(kind) or pa.types.is_null(kind):
        return _strings
    return _decoded if _is_binary(kind) else None


def id_values(kind: Any) -> tuple[Values, IdType] | None:
    """How to read ids of a column of that type, and their type; None if such values are no ids.

    Integers and text stay what they are. Binary ids become hexadecimal digits, UUIDs their usual form, times
    ISO 8601 (those with a zone in UTC), everything else what Arrow prints.
    """
    import pyarrow as pa

    types = pa.types
    is_uuid = getattr(kind, "extension_name", None) == "arrow.uuid"
    kind = _stored(kind)
    if types.is_integer(kind):
        return _plain, "uint64" if kind == pa.uint64() else "int64"
    if _is_string(kind) or types.is_null(kind):
        return _printable_strings, "string"
    if types.is_nested(kind):
        return None
    if is_uuid or _is_binary(kind):
        return _uuids if is_uuid else _hexadecimal, "string"
    return _utc if types.is_timestamp(kind) and kind.tz is not None else _cast_to_string, "string"


def plain_values(column: Any) -> list[Any]:
    """The values of any column; strings that are not UTF-8 have lone surrogates."""
    import pyarrow as pa

    if (values := text_values(column.type)) is not None and not pa.types.is_null(column.type):
        return values(column)
    try:
        return list(column.to_pylist())
    except (UnicodeDecodeError, ValueError, OverflowError):  # such as a time between two microseconds
        return list(column.cast(pa.string()).to_pylist())


def check_column(column: Any) -> None:
    """Raise ArrowInvalid if the column would lead astray: Arrow IPC is not checked as it is read.

    Strings that are not UTF-8 pass, because they fail alone.
    """
    import pyarrow as pa

    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        binary = {
            pa.string(): pa.binary(),
            pa.large_string(): pa.large_binary(),
            pa.string_view(): pa.binary_view(),
        }
        if column.type not in binary:
            raise
        column.view(binary[column.type]).validate(full=True)


def _stored(kind: Any) -> Any:
    """The type of the values themselves, without dictionary, run ends or extension."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _stored(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _stored(kind.value_type)
    return kind


def _plainly_stored(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column.type, pa.BaseExtensionType):
        return _plainly_stored(column.storage)
    if pa.types.is_dictionary(column.type):
        return _plainly_stored(column.dictionary_decode())
    return pc.run_end_decode(column) if pa.types.is_run_end_encoded(column.type) else column


def _is_string(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    checks = types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary
    return any(check(kind) for check in checks)


def _plain(column: Any) -> list[Any]:
    return list(_plainly_stored(column).to_pylist())


def _strings(column: Any) -> list[Any]:
    import pyarrow as pa

    stored = _plainly_stored(column)
    try:
        return list(stored.to_pylist())
    except UnicodeDecodeError:
        return _decoded(stored.cast(pa.large_binary()))


def _decoded(column: Any) -> list[Any]:
    values = _plainly_stored(column).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]


def _printable_strings(column: Any) -> list[Id]:
    return [None if value is None else printable(value) for value in _strings(column)]


def _hexadecimal(column: Any) -> list[Id]:
    return [None if value is None else value.hex() for value in _plain(column)]


def _uuids(column: Any) -> list[Id]:
    from uuid import UUID

    return [None if value is None else str(UUID(bytes=value)) for value in _plain(column)]


def _cast_to_string(column: Any) -> list[Id]:
    import pyarrow as pa

    return list(_plainly_stored(column).cast(pa.string()).to_pylist())


def _utc(column: Any) -> list[Id]:
    import pyarrow as pa

    stored = _plainly_stored(column)
    values = stored.cast(pa.timestamp(stored.type.unit)).cast(pa.string()).to_pylist()
    return [None if value is None else f"{value}Z" for value in values]
