"""Writes vectors as a two-dimensional .npy array, with the ids line by line in a file beside it."""

import io
import json
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from producer.contract import Reply
from producer.files.rows import RowBatch


class NpyWriter:
    """Rows of failed texts are NaN in float types, 0 in the others; `ids` gets one JSON value per line."""

    def __init__(self, stream: BinaryIO, ids: BinaryIO) -> None:
        self._stream = stream
        self._ids = ids
        self._num_rows = 0
        self._dim = 0
        self._dtype: np.dtype[np.generic] = np.dtype(np.float32)

    def write(self, rows: RowBatch, reply: Reply) -> None:
        """Append rows. Raises OSError."""
        if self._num_rows == 0:
            self._dim, self._dtype = reply.vectors.shape[1], reply.vectors.dtype.newbyteorder("<")
            self._write_header()
        self._stream.write(np.ascontiguousarray(reply.vectors, dtype=self._dtype).tobytes())
        self._ids.write("".join(f"{json.dumps(row_id)}\n" for row_id in rows.ids).encode())
        self._num_rows += len(rows.ids)

    def resume(self, earlier: BinaryIO) -> None:
        """Read width and type from the header, and the number of rows from the size. Raises OSError."""
        npy_format.read_magic(earlier)
        (_, self._dim), _, self._dtype = npy_format.read_array_header_1_0(earlier)
        header_bytes = earlier.tell()
        num_bytes = earlier.seek(0, io.SEEK_END) - header_bytes
        self._num_rows = num_bytes // (self._dim * self._dtype.itemsize)

    def finish(self, description: str) -> None:
        """Fill in the number of rows; the format has no place for a description. Raises OSError."""
        self._stream.seek(0)
        self._write_header()

    def abandon(self) -> None:
        """Do nothing: there is nothing to release."""

    def _write_header(self) -> None:
        """Write the header; numpy pads it so that its size does not depend on the number of rows."""
        fields = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._num_rows, self._dim)}
        npy_format.write_array_header_1_0(self._stream, fields)
