"""Input parts: what the arguments of a command stand for, each with a name and a version."""

import glob
import io
import os
import select
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from producer.errors import FileError
from producer.locations.filesystem import Stat
from producer.locations.urls import open_filesystem

STDIN = "-"
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input part.

    `location` is what people see, `name` its path relative to the argument that it came from, for naming the
    output part: no two parts of a run share one. `etag_or_mtime` changes when the content does; it is empty
    for standard input, and `size` is None where it is unknown.
    """

    location: str
    name: str
    size: int | None
    etag_or_mtime: str

    def open(self) -> BinaryIO:
        """Open it for reading. Raises FileError."""
        if self.location == STDIN:
            return io.BufferedReader(WaitingInput(sys.stdin.fileno()))
        filesystem, path = open_filesystem(self.location)
        return filesystem.open(path)


def source_of(location: str) -> Source:
    """The part at one location, which must be there. Raises FileError."""
    if location == STDIN:
        return Source(location=STDIN, name="stdin", size=None, etag_or_mtime="")
    filesystem, path = open_filesystem(location)
    facts = filesystem.stat(path)
    if facts is None:
        raise FileError(f"{location}: cannot be read (there is no such file); check the path")
    return _source(location, os.path.basename(path), facts)


def expand(arguments: Sequence[str]) -> list[Source]:
    """The parts that files, directories, globs, URLs and "-" stand for, in order. Raises FileError."""
    return [source_of(path) for argument in arguments for path in (sorted(glob.glob(argument)) or [argument])]


def _source(location: str, name: str, facts: Stat) -> Source:
    return Source(location=location, name=name, size=facts.size, etag_or_mtime=facts.version)


class WaitingInput(io.RawIOBase):
    """Standard input whose reader can be stopped: otherwise a read from a terminal waits forever."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.stopped = False
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self.stopped:
            if select.select([self._descriptor], [], [], _POLL_S)[0]:
                return os.readv(self._descriptor, [buffer])
        return 0
