"""Vectors as one two-dimensional .npy array, ids line by line beside it."""

import io
import json
import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from producer.contract import Reply
from producer.files.rows import Id

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER_BYTES = 128  # a fixed size, so that the number of rows can be filled in at the end


class NpyWriter:
    """Rows of failed texts are NaN in float types, 0 in the others; `ids` gets one JSON value a line."""

    appends = True

    def __init__(self, stream: BinaryIO, ids: BinaryIO) -> None:
        self._stream = stream
        self._ids = ids
        self._num_rows = 0
        self._dim = 0
        self._dtype: np.dtype[np.generic] = np.dtype(np.float32)

    def write(self, ids: Sequence[Id], reply: Reply) -> None:
        """Add rows. Raises OSError."""
        if self._num_rows == 0:
            self._dim, self._dtype = reply.vectors.shape[1], reply.vectors.dtype.newbyteorder("<")
            self._stream.write(self._header())
        rows = np.ascontiguousarray(reply.vectors, dtype=self._dtype)
        self._stream.write(rows.tobytes())
        self._ids.write("".join(f"{json.dumps(row_id)}\n" for row_id in ids).encode())
        self._num_rows += len(rows)

    def resume(self, earlier: BinaryIO) -> None:
        """Take width and type from the header, and the number of rows from the size. Raises OSError."""
        np.lib.format.read_magic(earlier)
        (_, self._dim), _, self._dtype = np.lib.format.read_array_header_1_0(earlier)
        num_bytes = earlier.seek(0, io.SEEK_END) - _HEADER_BYTES
        self._num_rows = num_bytes // (self._dim * self._dtype.itemsize)

    def pause(self) -> None:
        """Nothing more: a run may go on behind any row."""

    def finish(self, description: str) -> None:
        """Fill in the number of rows; the format holds no description. Raises OSError."""
        self._stream.seek(0)
        self._stream.write(self._header())

    def abandon(self) -> None:
        """Nothing to let go of."""

    def _header(self) -> bytes:
        fields = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._num_rows, self._dim)}
        size = _HEADER_BYTES - len(_MAGIC) - 2
        return _MAGIC + struct.pack("<H", size) + repr(fields).ljust(size - 1).encode() + b"\n"
