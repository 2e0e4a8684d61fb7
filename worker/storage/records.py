"""JSON records in the cache: whole or absent, of one type each, and never a reason to fail."""

from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from producer.atomic import replace_file

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")


class RecordOwner(msgspec.Struct, frozen=True, kw_only=True):
    """The model and profile that a record belongs to; empty if it does not say."""

    model: str = ""
    profile: str = ""


def read_record(path: Path, kind: type[T]) -> T | None:
    """The record in a file; None if it is absent, damaged or of another shape than `kind`."""
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
    """Write a record, whole or not at all; a folder that cannot be written is logged, not raised."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.json.encode(record))
    except OSError as error:
        log.warning("cache_not_written", path=str(path), reason=error.strerror)
