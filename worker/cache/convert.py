"""Converts a model with pickled weights into a directory with safetensors, which a worker can serve."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog

from producer.errors import ModelError
from selection import manifest_for
from selection.manifests.catalog import GENERIC
from worker.models.config_file import read_object
from worker.models.safetensors_reader import SafetensorsFile
from worker.models.source import locate
from worker.settings import Settings
from worker.startup.named_model import refuse_unknown

log = structlog.stdlib.get_logger(__name__)

RECORD = "conversion.json"  #: what was converted, beside the result
_PICKLE, _RESULT = "pytorch_model", "model"
_KEPT = {".json", ".txt", ".model", ".safetensors"}
_TIMEOUT_S = 3600


class ConvertedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One pickle and what became of it: paths below the model's folder, and SHA-256 in hex."""

    source: str
    source_sha256: str
    result: str
    result_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A directory that can be served, and the files that were converted into it."""

    directory: Path
    files: tuple[ConvertedFile, ...]

    def __str__(self) -> str:
        names = ", ".join(f"{each.result} (SHA-256 {each.result_sha256})" for each in self.files)
        return f"{self.directory}: {names}; serve it with EMBEDMILL_MODEL_DIR={self.directory}"


def convert(model: str, out: Path, settings: Settings) -> Converted:
    """Convert the model, a directory or a name on the hub, into the new directory `out`.

    `out` is whole or absent: everything is written beside it first. Raises ModelError.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} exists already; name a new directory")
    source = _find(model, settings)
    pickles = list(_pickles(source))
    if not pickles:
        raise ModelError(f"{source} has no {_PICKLE}.bin without safetensors; there is nothing to convert")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        unfinished = Path(scratch) / "model"
        _copy_rest(source, unfinished)
        files = tuple(_convert_file(source, pickle, unfinished) for pickle in pickles)
        for index in source.rglob(f"{_PICKLE}.bin.index.json"):
            _convert_index(index, unfinished / index.parent.relative_to(source))
        record = {"model": model, "files": [msgspec.to_builtins(each) for each in files]}
        (unfinished / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    return Converted(directory=out, files=files)


def _find(model: str, settings: Settings) -> Path:
    directory = Path(model).expanduser()
    if directory.is_dir():
        return directory
    found = manifest_for(model)
    if found.path.stem == GENERIC:
        refuse_unknown(found.model)
    on_hub = [source for source in found.model.pinned_sources if source.startswith("hf:")]
    return locate(on_hub, cache=settings.cache_path / "hub", offline=settings.offline, pickles=True)


def _pickles(source: Path) -> Iterator[Path]:
    """Pickled checkpoints in folders without safetensors: the network's, and those of Dense modules."""
    for path in sorted(source.rglob(f"{_PICKLE}*.bin")):
        if path.is_file() and not any(path.parent.glob("*.safetensors")):
            yield path


def _copy_rest(source: Path, target: Path) -> None:
    """Copy what a worker reads: no pickles, no code, no other formats."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        index = path.name == f"{_PICKLE}.bin.index.json"
        if path.suffix in _KEPT and path.is_file() and not index and path.name != RECORD:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _convert_file(source: Path, pickle: Path, unfinished: Path) -> ConvertedFile:
    where = pickle.relative_to(source)
    result = unfinished / where.with_name(_renamed(pickle.name))
    result.parent.mkdir(parents=True, exist_ok=True)
    outcome = _run_apart(pickle, result)
    if "error" in outcome:
        raise ModelError(f"{where} could not be converted: {outcome['error']}")
    SafetensorsFile(result)
    log.info("converted", file=str(where), network_cut_off=str(outcome.get("network_cut_off", False)).lower())
    return ConvertedFile(
        source=str(where),
        source_sha256=_sha256(pickle),
        result=str(result.relative_to(unfinished)),
        result_sha256=_sha256(result),
    )


def _run_apart(pickle: Path, result: Path) -> dict[str, Any]:
    """What the process says that reads the pickle; see worker/cache/unpickle.py."""
    command = [sys.executable, "-m", "worker.cache.unpickle", str(pickle.resolve()), str(result.resolve())]
    # Nothing of ours, such as tokens and proxies, but the place of the libraries.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.defpath}
    try:
        ended = subprocess.run(
            command, env=environment, cwd=result.parent, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it took longer than {_TIMEOUT_S // 60} minutes"}
    if ended.returncode < 0:
        return {"error": f"the process was killed by signal {-ended.returncode}; it may have lacked memory"}
    try:
        outcome = json.loads(ended.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        reason = ended.stderr.decode(errors="replace").strip().splitlines()
        return {"error": reason[-1][:300] if reason else f"the process ended with {ended.returncode}"}
    return outcome if isinstance(outcome, dict) else {"error": "the process gave no outcome"}


def _convert_index(index: Path, folder: Path) -> None:
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"{index} lists no shards; download the model again")
    renamed = {name: _renamed(Path(str(shard)).name) for name, shard in shards.items()}
    content = {"metadata": {}, "weight_map": renamed}
    (folder / f"{_RESULT}.safetensors.index.json").write_text(json.dumps(content, indent=1) + "\n")


def _renamed(name: str) -> str:
    """pytorch_model-00001-of-00002.bin becomes model-00001-of-00002.safetensors."""
    return f"{_RESULT}{name.removeprefix(_PICKLE).removesuffix('.bin')}.safetensors"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
