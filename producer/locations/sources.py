"""Input parts: one file each, with a name and a version."""

import io
import os
import select
import sys
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import unquote

from producer.errors import FileError
from producer.locations.filesystem import Stat
from producer.locations.urls import is_url, open_filesystem, shown

STDIN = "-"
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input part.

    `location` is what people see, `name` its path relative to the argument that it came from, for naming the
    output part: no two parts of a run share one. `etag_or_mtime` changes when the content does; it is empty
    for standard input, and `size` is None where it is unknown. `address` is what is opened: for a web address
    with a signature it is more than `location` shows.
    """

    location: str
    name: str
    size: int | None
    etag_or_mtime: str
    address: str = field(repr=False)

    def open(self) -> BinaryIO:
        """Open it for reading. Raises FileError."""
        if self.location == STDIN:
            return io.BufferedReader(WaitingInput(sys.stdin.fileno()))
        filesystem, path = open_filesystem(self.address)
        return filesystem.open(path)


def source_of(location: str) -> Source:
    """The part at one path or URL, which must be there. Raises FileError."""
    if location == STDIN:
        return Source(location=STDIN, name="stdin", size=None, etag_or_mtime="", address=STDIN)
    filesystem, path = open_filesystem(location)
    facts = filesystem.stat(path)
    if facts is None:
        is_directory = not is_url(location) and os.path.isdir(location)
        problem = "it is a directory, not a file" if is_directory else "there is no such file"
        raise FileError(f"{shown(location)}: cannot be read ({problem}); check the path")
    return source_at(
        location, os.path.basename(unquote(shown(location)) if is_url(location) else path), facts
    )


def source_at(address: str, name: str, facts: Stat) -> Source:
    """The part at an address of which the facts are known."""
    return Source(
        location=shown(address), name=name, size=facts.size, etag_or_mtime=facts.version, address=address
    )


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
