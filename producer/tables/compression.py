"""Decompresses an input as it is read, by its extension."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import PurePath
from typing import Any, BinaryIO, cast

from producer.tables.pyarrow_edge import import_pyarrow

_BUFFER_BYTES = 1 << 18


def compression_of(name: str) -> str | None:
    """The suffix of a compression that a file name ends in, as it is written there; None without any."""
    suffix = PurePath(name).suffix
    return suffix if suffix.lower() in _OPENERS else None


def decompressed(raw: BinaryIO, name: str) -> BinaryIO:
    """The content of a file, decompressed if its name says so. Raises FileError without pyarrow for .zst."""
    suffix = compression_of(name)
    return raw if suffix is None else _OPENERS[suffix.lower()](raw, name)


def decoder_errors() -> tuple[type[Exception], ...]:
    """What reading and decoding raise on a damaged file."""
    return (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


def _zstd(raw: BinaryIO, name: str) -> BinaryIO:
    import_pyarrow(name)
    import pyarrow as pa

    return _buffered(pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))


def _buffered(stream: Any) -> BinaryIO:
    return cast("BinaryIO", BufferedReader(stream, _BUFFER_BYTES))


_OPENERS: dict[str, Callable[[BinaryIO, str], BinaryIO]] = {
    ".gz": lambda raw, _name: _buffered(gzip.GzipFile(fileobj=raw)),
    ".bz2": lambda raw, _name: _buffered(bz2.BZ2File(raw)),
    ".xz": lambda raw, _name: _buffered(lzma.LZMAFile(raw)),  # noqa: SIM115 - closed with the stream
    ".zst": _zstd,
}
