"""Vectors of earlier parts, found by the digests of their rows."""

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from producer.datasets.digests import FAILED, ROW, DigestIndex, Digests, RowFacts, content_of
from producer.datasets.identity import FoundIdentity
from producer.datasets.manifest import FinishedPart
from producer.datasets.target import Target, rows_file
from producer.datasets.vector_files import UnreadablePart, vectors_in
from producer.errors import FileError
from producer.files import Stat
from producer.files.part_file import writable

_MAX_SPOOLED = 8
_READ_BYTES = 1 << 20


class EarlierVectors:
    """The vectors of parts that are to be replaced; a context manager.

    A part whose file is not the one that was recorded does not count, nor does a row that failed. The vectors
    of up to eight parts lie in temporary files, so that memory holds 24 bytes a row.
    """

    def __init__(self, target: Target, parts: Iterable[FinishedPart], found: FoundIdentity | None) -> None:
        self._target = target
        self._found = found
        self._parts = [part for part in parts if part.num_rows] if found else []
        self._rows: list[RowFacts] = []
        self._index = self._read_index()
        self._spools: OrderedDict[int, npt.NDArray[Any] | None] = OrderedDict()
        self._folder = tempfile.TemporaryDirectory(prefix="embedmill-")

    def find(self, rows: RowFacts) -> npt.NDArray[np.int64]:
        """For each row a number for `vectors` and `facts`, -1 if it has to be embedded."""
        found = self._index.find(content_of(rows))
        for part in np.unique(found[found >= 0] >> 32):
            if self._vectors_of(int(part)) is None:
                found[found >> 32 == part] = -1
        return found

    def take(self, numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], RowFacts]:
        """The vectors and the facts (of type ROW) of rows that `find` found."""
        assert self._found is not None
        vectors = np.empty((len(numbers), self._found.dimensions), self._found.element_type)
        facts = np.empty(len(numbers), ROW)
        for part in np.unique(numbers >> 32):
            at = numbers >> 32 == part
            rows = numbers[at] & 0xFFFFFFFF
            spooled = self._vectors_of(int(part))
            if spooled is None:
                raise FileError(f"{self._parts[part].name}: changed while it was read; run again")
            vectors[at] = spooled[rows]
            facts[at] = self._rows[part][rows]
        return vectors, facts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spools.clear()
        self._folder.cleanup()

    def _read_index(self) -> DigestIndex:
        contents: list[Digests] = [np.empty((0, 2), np.uint64)]
        numbers: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
        for part_number, part in enumerate(self._parts):
            rows = rows_of(self._target, part)
            self._rows.append(rows)
            good = np.nonzero(rows["flags"] & FAILED == 0)[0]
            contents.append(content_of(rows[good]))
            numbers.append((part_number << 32) + good)
        return DigestIndex(np.concatenate(contents), np.concatenate(numbers))

    def _vectors_of(self, number: int) -> npt.NDArray[Any] | None:
        if number not in self._spools:
            self._spools[number] = self._spool(self._parts[number], self._folder_path / str(number))
            if len(self._spools) > _MAX_SPOOLED:
                oldest, _ = self._spools.popitem(last=False)
                (self._folder_path / str(oldest)).unlink(missing_ok=True)
        self._spools.move_to_end(number)
        return self._spools[number]

    @property
    def _folder_path(self) -> Path:
        return Path(self._folder.name)

    def _spool(self, part: FinishedPart, path: Path) -> npt.NDArray[Any] | None:
        """The vectors as one array in a file; None if the part's file is not the one that was recorded."""
        assert self._found is not None
        width, kind = self._found.dimensions, np.dtype(self._found.element_type)
        before = self._target.stat(part.name)
        num_rows = 0
        try:
            if before is None or not self._is_recorded(before, part):
                return None
            with closing(self._target.open(part.name)) as stream, writable(path), path.open("wb") as spool:
                for vectors in vectors_in(stream, part.read["output_format"], width):
                    spool.write(np.ascontiguousarray(vectors, kind).tobytes())
                    num_rows += len(vectors)
        except UnreadablePart:
            return None
        # Looked at again: if it was replaced meanwhile, this is not what was read.
        if num_rows != part.num_rows or self._target.stat(part.name) != before:
            return None
        return np.memmap(path, kind, "r", shape=(num_rows, width))

    def _is_recorded(self, found: Stat, part: FinishedPart) -> bool:
        """True if the file is as it was committed; a copy has another time, but the same bytes."""
        if found.version == part.version:
            return True
        digest = hashlib.sha256()
        with closing(self._target.open(part.name)) as stream:
            while piece := stream.read(_READ_BYTES):
                digest.update(piece)
        return digest.hexdigest() == part.sha256


def rows_of(target: Target, part: FinishedPart) -> RowFacts:
    """The digests of a finished part's rows; none if they are missing or not those of the part."""
    name = rows_file(part.name)
    if part.num_rows == 0 or target.stat(name) is None:
        return np.empty(0, ROW)
    data = target.read(name)
    if len(data) != part.num_rows * ROW.itemsize:
        return np.empty(0, ROW)
    return np.frombuffer(data, ROW)
