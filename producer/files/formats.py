"""The output formats, and the extensions that select them."""

from enum import StrEnum
from pathlib import Path

from producer.errors import FileError


class OutputFormat(StrEnum):
    """Formats that can be written."""

    PARQUET = "parquet"
    ARROW = "arrow"  #: Arrow IPC file
    JSONL = "jsonl"
    JSONL_GZ = "jsonl.gz"
    JSONL_ZST = "jsonl.zst"
    NPY = "npy"


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


def output_format(path: Path) -> OutputFormat:
    """The format of an output by its extension. Raises FileError."""
    compressed = _COMPRESSED.get(path.suffix)
    if compressed is not None:
        if output_format(path.with_suffix("")) is not OutputFormat.JSONL:
            raise FileError(f"{path}: only JSONL is compressed as a whole; leave out {path.suffix}")
        return compressed
    try:
        return _OUTPUT_SUFFIXES[path.suffix.lower()]
    except KeyError:
        known = ", ".join(_OUTPUT_SUFFIXES)
        raise FileError(
            f"{path}: unknown file extension; use one of {known}, or give --output-format"
        ) from None
