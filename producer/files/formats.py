"""The output formats, and the extensions that select them."""

from enum import StrEnum
from pathlib import Path

from producer.errors import FileError


class OutputFormat(StrEnum):
    """Formats that can be written."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    NPY = "npy"


_OUTPUT_SUFFIXES = {
    ".parquet": OutputFormat.PARQUET,
    ".jsonl": OutputFormat.JSONL,
    ".ndjson": OutputFormat.JSONL,
    ".npy": OutputFormat.NPY,
}


def output_format(path: Path) -> OutputFormat:
    """The format of an output by its extension. Raises FileError."""
    try:
        return _OUTPUT_SUFFIXES[path.suffix.lower()]
    except KeyError:
        known = ", ".join(_OUTPUT_SUFFIXES)
        raise FileError(
            f"{path}: unknown file extension; use one of {known}, or give --output-format"
        ) from None
