"""What depends on redis-py's internals or version; a test runs it on the oldest and newest we allow."""

import inspect
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ResponseError,
    TryAgainError,
)

# Subclasses before their base classes.
_CODES = {
    MovedError: "MOVED",
    AskError: "ASK",
    TryAgainError: "TRYAGAIN",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
}


def is_quiet(connection: AbstractConnection) -> bool:
    """True if the connection is open with nothing to read, neither a late reply nor the end of the stream.

    The public ways to ask are a read with a timeout of 0 before redis-py 8, which costs as much as a small
    command, and `can_read` since. Both look at `_reader`, asyncio's StreamReader, which has no public way
    to ask what it has buffered.
    """
    reader: Any = connection._reader
    return reader is not None and not reader._buffer and not reader.at_eof()


def split_code(error: ResponseError) -> tuple[str, str]:
    """The code of a server's error, such as MOVED, and the words after it.

    Since version 6 redis-py cuts off the code of errors that it has a class for.
    """
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code, str(error)
    code, _, words = str(error).partition(" ")
    return code, words


def nameless() -> dict[str, Any]:
    """Options of a connection that does not introduce itself with CLIENT SETINFO.

    Redis before 7.2 cannot grant the right to that command. redis-py before 7.2 takes no `driver_info`, and
    newer ones deprecate the other two.
    """
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters:
        return {"driver_info": None}
    return {"lib_name": None, "lib_version": None}
