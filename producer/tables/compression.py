"""Decompresses an input as it is read, by its extension."""

import gzip
from pathlib import PurePosixPath
from typing import BinaryIO, cast

_SUFFIXES = (".gz",)


def compression_of(name: str) -> str | None:
    """The compression that a file name ends in, as its suffix; None without any."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in _SUFFIXES else None


def decompressed(raw: BinaryIO, name: str) -> BinaryIO:
    """The content of a file, decompressed if its name says so."""
    return raw if compression_of(name) is None else cast("BinaryIO", gzip.GzipFile(fileobj=raw))
