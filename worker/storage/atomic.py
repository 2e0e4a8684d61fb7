"""TODO worker/storage/atomic.py"""

import os
import secrets
from pathlib import Path


def replace_file(path: Path, *parts: bytes) -> None:
    """Write the parts under that name: readers see the old file or the whole new one. Raises OSError."""
    # Not by tempfile, whose files nobody else may read: an image's plans are built by root.
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with new.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
