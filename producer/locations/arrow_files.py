"""Files of the object stores that pyarrow reaches itself: S3 and Google Cloud Storage."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from producer.locations.failures import unreadable, unwritable
from producer.locations.filesystem import Stat

_BUFFER_BYTES = 1 << 20


class ArrowFiles:
    """The `FileSystem` around one of pyarrow's; `scheme` is what people write before a path, as in s3."""

    def __init__(self, filesystem: Any, scheme: str) -> None:
        self._filesystem, self._scheme = filesystem, scheme

    def stat(self, path: str) -> Stat | None:
        with self._reading(path):
            return _stat(self._filesystem.get_file_info(path))

    def list(self, path: str) -> list[Stat]:
        from pyarrow import fs

        with self._reading(path):
            selector = fs.FileSelector(path.rstrip("/"), recursive=True, allow_not_found=True)
            found = map(_stat, self._filesystem.get_file_info(selector))
            return sorted((each for each in found if each is not None), key=lambda each: each.path)

    def open(self, path: str) -> BinaryIO:
        with self._reading(path):
            return cast("BinaryIO", io.BufferedReader(self._filesystem.open_input_file(path), _BUFFER_BYTES))

    def write(self, path: str, data: bytes) -> None:
        with self._writing(path), self._filesystem.open_output_stream(path) as stream:
            stream.write(data)

    def put(self, local: Path, path: str) -> None:
        from pyarrow import fs

        # Not through a stream of ours: one that is dropped on an error commits what was written to it.
        with self._writing(path):
            fs.copy_files(str(local), path, fs.LocalFileSystem(), self._filesystem)
            local.unlink()

    def delete(self, path: str) -> None:
        with self._writing(path), contextlib.suppress(FileNotFoundError):
            self._filesystem.delete_file(path)

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # pyarrow's own errors are of both kinds
            raise unreadable(f"{self._scheme}://{path}", error) from error

    @contextlib.contextmanager
    def _writing(self, path: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise unwritable(f"{self._scheme}://{path}", error) from error


def _stat(info: Any) -> Stat | None:
    if not info.is_file:
        return None
    return Stat(info.path, info.size, f"{info.size}-{info.mtime_ns}")
