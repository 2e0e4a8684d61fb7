"""Reads a msgpack map that anybody may have written, in memory that its size bounds.

A few bytes of msgpack can stand for many objects, or claim a length that is not there. So nothing is read but
what a field may hold: a container that is nested or too long is refused at its header, before it is built.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

import msgpack

from producer.errors import PayloadError

# Where msgpack has no compiled code, its limits hold for the headers that we ask for, too.
_IS_PYTHON = msgpack.Unpacker.__module__ == "msgpack.fallback"
_MAX_FIELDS = 64
_MAX_ROW = 8


class Kind(Enum):
    """What a field holds if it is no scalar: scalars in a list, short lists of them, or a map of them."""

    LIST = auto()
    ROWS = auto()
    MAP = auto()


def read_map(payload: bytes, kinds: Mapping[str, Kind], *, max_bytes: int, max_items: int) -> dict[str, Any]:
    """The fields of the map; those that are not in `kinds` must be scalars, as all items of containers.

    Raises PayloadError, and what msgpack raises on foreign bytes.
    """
    if len(payload) > max_bytes:
        raise PayloadError(f"the payload has {len(payload)} bytes, the limit is {max_bytes}")
    nested = max_items if _IS_PYTHON else 0
    unpacker = msgpack.Unpacker(
        raw=False,
        max_buffer_size=max(1, len(payload)),
        max_array_len=nested,
        max_map_len=min(nested, _MAX_FIELDS),
        max_ext_len=0,
    )
    unpacker.feed(payload)
    fields: dict[str, Any] = {}
    for _ in range(_bounded(unpacker.read_map_header(), _MAX_FIELDS)):
        name = unpacker.unpack()
        if not isinstance(name, str):
            raise PayloadError(f"a field of the payload has a name of type {type(name).__name__}")
        fields[name] = _field(unpacker, kinds.get(name), max_items)
    if unpacker.tell() != len(payload):
        raise PayloadError("the payload goes on after its end")
    return fields


def _field(unpacker: msgpack.Unpacker, kind: Kind | None, max_items: int) -> Any:
    match kind:
        case None:
            return unpacker.unpack()
        case Kind.LIST:
            return _list(unpacker, max_items)
        case Kind.ROWS:
            num_rows = _bounded(unpacker.read_array_header(), max_items)
            return [_list(unpacker, _MAX_ROW) for _ in range(num_rows)]
        case Kind.MAP:
            num_items = _bounded(unpacker.read_map_header(), _MAX_FIELDS)
            return {unpacker.unpack(): unpacker.unpack() for _ in range(num_items)}


def _list(unpacker: msgpack.Unpacker, max_items: int) -> list[Any]:
    return [unpacker.unpack() for _ in range(_bounded(unpacker.read_array_header(), max_items))]


def _bounded(number: int, limit: int) -> int:
    if number > limit:
        raise PayloadError(f"the payload has {number} items where at most {limit} belong")
    return number
