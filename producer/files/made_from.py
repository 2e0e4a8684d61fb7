"""Which run made a file: so that the same command, run again, knows that nothing is left to do."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from producer.files.formats import OutputFormat, output_format
from producer.files.parquet_writer import METADATA_KEY

META_SUFFIX = ".meta.json"


def identity_digest(identity: Mapping[str, str | int | None] | None) -> str | None:
    """A digest of what determines the rows of a file; None if that is not known."""
    if identity is None:
        return None
    return hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()


def is_made_from(
    path: Path, kind: OutputFormat | None, identity: Mapping[str, str | int | None] | None
) -> bool:
    """True if the file at `path` is the whole output of a run of that identity."""
    digest = identity_digest(identity)
    try:
        told = json.loads(_description(path, kind or output_format(path))) if path.is_file() else {}
        return digest is not None and told.get("made_from") == digest
    except (OSError, ValueError, KeyError, AttributeError):  # pyarrow's errors are ValueErrors too
        return False


def _description(path: Path, kind: OutputFormat) -> Any:
    if kind is OutputFormat.PARQUET:
        from pyarrow import parquet

        return parquet.read_metadata(path).metadata[METADATA_KEY.encode()]
    if kind is OutputFormat.ARROW:
        import pyarrow as pa

        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).schema.metadata[METADATA_KEY.encode()]
    return path.with_name(path.name + META_SUFFIX).read_bytes()
