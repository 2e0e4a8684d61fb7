"""JSON objects in the cache: whole or absent, and never a reason to fail."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

log = structlog.stdlib.get_logger(__name__)


def read_cached(path: Path) -> dict[str, Any] | None:
    """The object in the file; None if it is absent or not whole."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def keep_cached(path: Path, content: Mapping[str, Any]) -> None:
    """Write the object, whole or not at all; where nothing can be written the log says so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(name, path)
    except OSError as error:
        log.warning("cache_not_written", path=str(path), reason=error.strerror)
