"""Files that fsspec reaches: Azure, the Hugging Face Hub, the web, and whatever else it has a driver for."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from producer.errors import FileError
from producer.locations.failures import unreadable, unwritable
from producer.locations.filesystem import Stat

# What drivers call the state of a file, the most telling first.
_VERSIONS = (
    "ETag",
    "etag",
    "xet_hash",
    "blob_id",
    "md5",
    "content_md5",
    "LastModified",
    "last_modified",
    "mtime",
)


_BUFFER_BYTES = 1 << 20


class FsspecFiles:
    """The `FileSystem` around one of fsspec's; `scheme` is what people write before a path."""

    def __init__(self, filesystem: Any, scheme: str) -> None:
        self._filesystem, self._scheme = filesystem, scheme

    def stat(self, path: str) -> Stat | None:
        with self._reading(path):
            try:
                return _stat(self._filesystem.info(path))
            except FileNotFoundError as error:
                if self._is_absent(error):
                    return None
                raise (error.__cause__ or error) from None

    def list(self, path: str) -> list[Stat]:
        with self._reading(path):
            found = map(_stat, self._filesystem.find(path, detail=True).values())
            return sorted((each for each in found if each is not None), key=lambda each: each.path)

    def open(self, path: str) -> BinaryIO:
        with self._reading(path):
            opened = self._filesystem.open(path, "rb")
            return cast("BinaryIO", io.BufferedReader(opened, _BUFFER_BYTES))

    def write(self, path: str, data: bytes) -> None:
        with self._writing(path):
            self._filesystem.pipe_file(path, data)

    def put(self, local: Path, path: str) -> None:
        with self._writing(path):
            self._filesystem.put_file(str(local), path)
            local.unlink()

    def delete(self, path: str) -> None:
        with self._writing(path), contextlib.suppress(FileNotFoundError):
            self._filesystem.rm_file(path)

    def _is_absent(self, error: FileNotFoundError) -> bool:
        """For the web's driver no file is found whatever went wrong; the cause tells."""
        if self._scheme not in ("http", "https") or error.__cause__ is None:
            return True
        return getattr(error.__cause__, "status", None) in (404, 410)

    def _shown(self, path: str) -> str:
        """A path for people: without the query of a web address, which may be a signature."""
        path = path.partition("?")[0] if "://" in path else path
        return path if "://" in path else f"{self._scheme}://{path}"

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileError:
            raise
        except Exception as error:  # every driver has its own
            raise unreadable(self._shown(path), _without_query(error, path)) from error

    @contextlib.contextmanager
    def _writing(self, path: str) -> Iterator[None]:
        try:
            yield
        except NotImplementedError as error:
            raise FileError(
                f"{self._shown(path)}: nothing can be written there; choose another output"
            ) from error
        except Exception as error:
            raise unwritable(self._shown(path), _without_query(error, path)) from error


def _without_query(error: Exception, path: str) -> Exception:
    query = path.partition("?")[2] if "://" in path else ""
    return OSError(f"{type(error).__name__}: {str(error).replace(query, '...')}") if query else error


def _stat(info: dict[str, Any]) -> Stat | None:
    if info.get("type") == "directory":
        return None
    lfs = info.get("lfs") or {}
    marks = [info[name] for name in _VERSIONS if info.get(name)] or [lfs.get("sha256", "")]
    return Stat(info["name"], info.get("size"), f"{info.get('size')}-{marks[0]}")
