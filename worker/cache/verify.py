"""Whether what lies in the cache is what was put there."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from producer.errors import ModelError
from worker.cache.entries import Entry, hub_files
from worker.models.safetensors_reader import SafetensorsFile
from worker.startup.golden import read_golden
from worker.storage.json_file import read_cached

_BLOCK_BYTES = 1 << 20
_MAX_HEAD_BYTES = 1024


def faults(entry: Entry) -> list[str]:
    """A sentence for each thing that is wrong with the entry; none if it is whole."""
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
    return [] if read_cached(entry.path) is not None else [f"{entry.path} is not readable JSON; remove it"]


def _model_faults(folder: Path) -> Iterator[str]:
    """By the names that the hub gave the files, which are hashes of them; files of other names are opened."""
    for link in sorted(folder.glob("snapshots/**/*")):
        if link.is_symlink() and not link.exists():
            yield f"{link} leads nowhere; download the model again"
    for path in hub_files(folder):
        if path.suffix == ".incomplete":
            yield f"{path} is of a download that broke off; do it again, or remove it"
        elif path.parent.name == "blobs" and _hash(path) not in (None, path.name):
            yield f"{path} is damaged: its hash is not its name; remove it and download the model again"
        elif path.suffix == ".safetensors":
            try:
                SafetensorsFile(path)
            except ModelError as error:
                yield str(error)


def _hash(path: Path) -> str | None:
    """SHA-256 of a large file, git's own of a small one; None if the name is neither's."""
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
    """A plan begins with a line of JSON that has its key and the hash of all that follows."""
    again = "remove it and run `worker build-engines`"
    if read_cached(plan.with_suffix(".json")) is None:
        yield f"{plan} has no description that can be read; {again}"
    try:
        head, _, content = plan.read_bytes().partition(b"\n")
    except OSError as error:
        yield f"{plan} cannot be read ({error.strerror}); {again}"
        return
    stated = _object(head[:_MAX_HEAD_BYTES])
    if stated.get("key") != plan.stem:
        yield f"{plan} is not the plan that its name says; {again}"
    elif hashlib.sha256(content).hexdigest() != stated.get("sha256"):
        yield f"{plan} is damaged or not whole; {again}"


def _object(line: bytes) -> Mapping[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
