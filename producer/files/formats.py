"""File formats, and the extensions that select them."""

from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from producer.errors import FileError
from producer.locations.sources import STDIN


class InputFormat(StrEnum):
    """Formats that can be read."""

    LINES = "lines"  #: one text per line
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"  #: Arrow IPC, file or stream


class OutputFormat(StrEnum):
    """Formats that can be written."""

    PARQUET = "parquet"
    ARROW = "arrow"  #: Arrow IPC file
    JSONL = "jsonl"
    JSONL_GZ = "jsonl.gz"
    JSONL_ZST = "jsonl.zst"
    NPY = "npy"


_INPUT_SUFFIXES = {
    ".txt": InputFormat.LINES,
    ".jsonl": InputFormat.JSONL,
    ".ndjson": InputFormat.JSONL,
    ".csv": InputFormat.CSV,
    ".parquet": InputFormat.PARQUET,
    ".arrow": InputFormat.ARROW,
    ".arrows": InputFormat.ARROW,
    ".feather": InputFormat.ARROW,
    ".ipc": InputFormat.ARROW,
}
_OUTPUT_SUFFIXES = {
    ".parquet": OutputFormat.PARQUET,
    ".arrow": OutputFormat.ARROW,
    ".feather": OutputFormat.ARROW,
    ".ipc": OutputFormat.ARROW,
    ".jsonl": OutputFormat.JSONL,
    ".ndjson": OutputFormat.JSONL,
    ".npy": OutputFormat.NPY,
}
_COMPRESSED = {".gz": OutputFormat.JSONL_GZ, ".zst": OutputFormat.JSONL_ZST}


def input_format(path: str) -> InputFormat:
    """The format of an input by its extension, ignoring `.gz`; standard input is lines. Raises FileError."""
    if path == STDIN:
        return InputFormat.LINES
    return _by_suffix(path.removesuffix(".gz"), _INPUT_SUFFIXES, "--format")


def output_format(path: Path) -> OutputFormat:
    """The format of an output by its extension. Raises FileError."""
    compressed = _COMPRESSED.get(path.suffix)
    if compressed is None:
        return _by_suffix(str(path), _OUTPUT_SUFFIXES, "--output-format")
    if _by_suffix(str(path.with_suffix("")), _OUTPUT_SUFFIXES, "--output-format") is not OutputFormat.JSONL:
        raise FileError(f"{path}: only JSONL is compressed as a whole; leave out {path.suffix}")
    return compressed


_Format = TypeVar("_Format", bound=StrEnum)


def _by_suffix(path: str, suffixes: dict[str, _Format], option: str) -> _Format:
    try:
        return suffixes[Path(path).suffix.lower()]
    except KeyError:
        known = ", ".join(suffixes)
        raise FileError(f"{path}: unknown file extension; use one of {known}, or give {option}") from None
