"""Reads a safetensors file as NumPy views of the memory-mapped file, so that tensors are read lazily.

The safetensors library does not support bfloat16 with NumPy, and copies where this returns views.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.errors import ModelError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_INTEGERS = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


class SafetensorsFile:
    """A memory-mapped file; `names` lists its tensors. Raises ModelError if it is damaged or incomplete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._bytes: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
            self._start, self._header = _read_header(self._bytes)
        except (OSError, ValueError) as error:
            raise ModelError(f"{path.name} is not a complete safetensors file; download it again") from error

    @property
    def names(self) -> list[str]:
        """The names of all tensors."""
        return list(self._header)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading the tensor."""
        return tuple(self._header[name]["shape"])

    def read(self, name: str, *, integers: bool = False) -> npt.NDArray[np.float32]:
        """A tensor as float32: a view of the file if stored as float32, else a copy. Raises ModelError.

        With `integers` it may be stored as such; where it is a weight, they would lack their scale.
        """
        entry = self._header[name]
        dtype, known = entry["dtype"], _DTYPES | _INTEGERS if integers else _DTYPES
        if dtype not in known:
            raise ModelError(f"tensor {name} is stored as {dtype}; supported are " + ", ".join(known))
        begin, end = entry["data_offsets"]
        if end - begin != math.prod(entry["shape"]) * np.dtype(known[dtype]).itemsize:
            raise ModelError(f"tensor {name} of {self._path.name} has the wrong size; download it again")
        raw = np.asarray(self._bytes[self._start + begin : self._start + end])
        stored = raw.view(known[dtype]).reshape(entry["shape"])
        if dtype == "BF16":
            found = (stored.astype(np.uint32) << 16).view(np.float32)
        else:
            found = np.require(stored, dtype=np.float32, requirements=["A", "C"])
        # In a row of the token table, NaN would only appear with that token, long after verification.
        if found.size and np.isnan(found.min()):
            raise ModelError(
                f"tensor {name} of {self._path.name} contains NaN; the weights are damaged, "
                "download them again"
            )
        return found


def _read_header(data: npt.NDArray[np.uint8]) -> tuple[int, Mapping[str, Any]]:
    """The offset of the first tensor, and the header. Raises ValueError if they do not match the file."""
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or start > min(len(data), _MAX_HEADER_BYTES):
        raise ValueError("the header is longer than the file")
    header = json.loads(data[8:start].tobytes())
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
            raise ValueError(f"the header's entry {name} is incomplete")
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(data) - start:
            raise ValueError(f"tensor {name} lies outside the file")
    return start, header
