"""Atomic replacement of files: readers see the old content or the new, never a part."""

import os
import secrets
from pathlib import Path


def replace_file(path: Path, *parts: bytes) -> None:
    """Write `parts` to `path`, replacing any older file only once all of it is on disk. Raises OSError."""
    # Not tempfile, which makes files private to their owner: images are built as root and read by others.
    draft = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with draft.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
