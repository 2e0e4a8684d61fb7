"""The input formats, and the extensions that select them."""

from enum import StrEnum
from pathlib import PurePath

from producer.errors import FileError
from producer.locations.sources import STDIN
from producer.tables.compression import compression_of


class InputFormat(StrEnum):
    """Formats that can be read."""

    LINES = "lines"  #: one text per line
    JSONL = "jsonl"
    JSON = "json"  #: a list of objects; or, as many programs write .json, objects one after the other
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"
    ARROW = "arrow"  #: Arrow IPC, file or stream, which is also what Feather's version 2 is
    ORC = "orc"


_SUFFIXES = {
    ".txt": InputFormat.LINES,
    ".jsonl": InputFormat.JSONL,
    ".ndjson": InputFormat.JSONL,
    ".json": InputFormat.JSON,
    ".csv": InputFormat.CSV,
    ".tsv": InputFormat.TSV,
    ".tab": InputFormat.TSV,
    ".parquet": InputFormat.PARQUET,
    ".pq": InputFormat.PARQUET,
    ".arrow": InputFormat.ARROW,
    ".arrows": InputFormat.ARROW,
    ".feather": InputFormat.ARROW,
    ".ipc": InputFormat.ARROW,
    ".orc": InputFormat.ORC,
}


def known_format(name: str) -> InputFormat | None:
    """The format that a file name's extension selects, ignoring a compression's; None if unknown."""
    packed = compression_of(name)
    return _SUFFIXES.get(PurePath(name.removesuffix(packed) if packed else name).suffix.lower())


def input_format(location: str, name: str) -> InputFormat:
    """The format of an input by its name; standard input is lines. Raises FileError."""
    if location == STDIN:
        return InputFormat.LINES
    found = known_format(name)
    if found is None:
        known = ", ".join(_SUFFIXES)
        raise FileError(f"{location}: unknown file extension; use one of {known}, or give --format")
    return found
