"""Which file system a path or URL belongs to."""

from producer.errors import FileError
from producer.locations.filesystem import FileSystem
from producer.locations.local_files import LocalFiles


def is_url(location: str) -> bool:
    """True for `scheme://...`."""
    return "://" in location


def open_filesystem(location: str) -> tuple[FileSystem, str]:
    """The file system of a path or URL, and the path in it. Raises FileError."""
    if is_url(location):
        raise FileError(f"{location}: URLs of this scheme are not supported")
    return LocalFiles(), location
