"""Reads and writes typed JSON records in the cache, atomically; their faults never fail the caller."""

from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from producer.atomic import replace_file

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")


class RecordOwner(msgspec.Struct, frozen=True, kw_only=True):
    """The model and profile that a record belongs to; empty if unknown."""

    model: str = ""
    profile: str = ""


def read_record(path: Path, kind: type[T]) -> T | None:
    """The record in a file; None if it is absent, damaged or not of type `kind`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.debug("cache_record_ignored", path=str(path), reason=error.strerror)
    # msgspec's errors and those of invalid UTF-8 are ValueErrors; deep nesting is a RecursionError.
    except (ValueError, RecursionError) as error:
        log.debug("cache_record_ignored", path=str(path), reason=str(error))
    return None


def write_record(path: Path, record: object) -> None:
    """Write a record atomically; a folder that cannot be written to is logged, not raised."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.json.encode(record))
    except OSError as error:
        log.warning("cache_not_written", path=str(path), reason=error.strerror)
