"""Checks the integrity of the cache: is every entry still what was written?"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producer.errors import BackendError, ModelError
from worker.cache.entries import Entry, hub_files
from worker.engines.plan_file import read_plan
from worker.models.safetensors_reader import SafetensorsFile
from worker.startup.golden import read_golden
from worker.storage.records import read_record

_BLOCK_BYTES = 1 << 20


def faults(entry: Entry) -> list[str]:
    """A sentence for each fault of the entry, with its cure; empty for an intact one."""
    match entry.kind:
        case "model":
            return list(_model_faults(entry.path))
        case "plan":
            return list(_plan_faults(entry.path))
        case "golden vectors":
            try:
                read_golden(entry.path)
            except ModelError as error:
                return [str(error)]
            return []
    if read_record(entry.path, dict[str, Any]) is None:
        return [f"{entry.path} is not a JSON object; remove it"]
    return []


def _model_faults(folder: Path) -> Iterator[str]:
    """Check files that the hub named by their hashes against these; open the others."""
    for link in sorted(folder.glob("snapshots/**/*")):
        if link.is_symlink() and not link.exists():
            yield f"{link} is a broken link; download the model again"
    for path in hub_files(folder):
        if path.suffix == ".incomplete":
            yield f"{path} is from an interrupted download; download the model again, or remove the file"
        elif path.parent.name == "blobs" and _hash(path) not in (None, path.name):
            yield f"{path} is damaged: its hash differs from its name; remove it and download the model again"
        elif path.suffix == ".safetensors":
            try:
                SafetensorsFile(path)
            except ModelError as error:
                yield str(error)


def _hash(path: Path) -> str | None:
    """SHA-256 for large files, git's blob hash for small ones; None if the name is neither."""
    if len(path.name) == 64:
        digest = hashlib.sha256()
    elif len(path.name) == 40:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        return None
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _plan_faults(plan: Path) -> Iterator[str]:
    if read_record(plan.with_suffix(".json"), dict[str, Any]) is None:
        yield f"{plan} has no readable description; remove it and run `worker build-engines`"
    try:
        read_plan(plan, plan.stem)
    except BackendError as error:
        yield str(error)
