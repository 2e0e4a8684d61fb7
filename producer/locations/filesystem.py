"""One small interface to every place that files lie in."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Stat:
    """A file's path in its file system, its size in bytes, and a string that changes with its content."""

    path: str
    size: int | None
    version: str


class FileSystem(Protocol):
    """Files by their paths. Every method raises FileError with a sentence on what to do.

    A write is whole or not at all: a reader sees the old content or the new.
    """

    def stat(self, path: str) -> Stat | None:
        """The file at `path`, None if there is none."""

    def list(self, path: str) -> list[Stat]:
        """All files below the directory `path`, also in its subdirectories, sorted; empty if it is absent."""

    def open(self, path: str) -> BinaryIO:
        """The file, opened for reading; it can seek."""

    def write(self, path: str, data: bytes) -> None:
        """Write a small file, with the directories above it."""

    def put(self, local: Path, path: str) -> None:
        """Commit a finished local file to `path`, once: by a rename or one upload; `local` is gone then."""

    def delete(self, path: str) -> None:
        """Remove the file, if it is there."""
