"""Sentences for files that cannot be reached, read or written."""

import errno

from producer.errors import FileError

_MAX_REASON = 200  # characters
_REFUSED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY",
    "SIGNATURE_DOES_NOT",
    "Forbidden",
    "Unauthorized",
    "403",
    "401",
)
_UNREACHABLE = ("NETWORK_CONNECTION", "onnect to", "resolve host", "Timeout", "timed out", "Connection")
_ABSENT = ("NO_SUCH_BUCKET", "NO_SUCH_KEY", "NoSuchBucket", "404", "Not Found")


def unreadable(location: str, error: BaseException) -> FileError:
    """The error for a file that a system or a decoder cannot read."""
    advice = _advice(error) or "check that it exists, is complete and that you may read it"
    return FileError(f"{location}: cannot be read ({_reason(error)}); {advice}")


def unwritable(location: str, error: BaseException) -> FileError:
    """The error for a file that a system refuses to write."""
    advice = _advice(error) or "check that you may write there"
    return FileError(f"{location}: cannot be written ({_reason(error)}); {advice}")


def _reason(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    reason = " ".join((reason or type(error).__name__).split())
    return reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}..."


def _advice(error: BaseException) -> str | None:
    """What to do, where the kind of the error tells it; libraries say it in the words of their messages."""
    said = f"{type(error).__name__} {error}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space, or write to another disk"
    if any(word in said for word in _ABSENT):
        return "check its name, and that it exists"
    if any(word in said for word in _REFUSED):
        return "check the credentials, which are taken from the environment and the library's own files"
    if any(word in said for word in _UNREACHABLE):
        return "check the address and the network, then run again"
    return None
