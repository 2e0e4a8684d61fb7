"""Sentences for files that cannot be reached, read or written."""

from producer.errors import FileError


def unreadable(location: str, error: BaseException) -> FileError:
    """The error for a file that the operating system or a decoder cannot read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileError(
        f"{location}: cannot be read ({reason}); check that it exists, is complete and that you may read it"
    )


def unwritable(location: str, error: OSError) -> FileError:
    """The error for a file that the operating system refuses to write."""
    reason = error.strerror or str(error)
    return FileError(f"{location}: cannot be written ({reason}); check that you may write there")
