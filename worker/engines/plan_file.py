"""A TensorRT plan on disk: a JSON header line that identifies it, then TensorRT's bytes."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from producer.atomic import replace_file
from producer.errors import BackendError
from selection.machine.facts import Plan
from worker.engines.spec import EngineSpec

_FORMAT = "embedmill-plan"
_MAX_HEADER_BYTES = 1024
_REBUILD = "remove it and run `worker build-engines`"


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    key: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedPlan:
    """A plan in the cache. `seconds` is how long the build took, 0 if the plan was already there."""

    path: Path
    spec: EngineSpec
    seconds: float = 0.0


def plan_path(folder: Path, spec: EngineSpec) -> Path:
    """The plan's path below `folder`, the cache's folder of plans; its description has the suffix .json."""
    return folder / spec.plan.profile_id[:16] / f"{spec.key}.plan"


def write_plan(path: Path, spec: EngineSpec, content: bytes) -> None:
    """Write a plan and, once it is complete, its description.

    Raises BackendError if they cannot be written to the cache.
    """
    header = _Header(format=_FORMAT, key=spec.key, sha256=hashlib.sha256(content).hexdigest())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.json.encode(header) + b"\n", content)
        replace_file(path.with_suffix(".json"), msgspec.json.encode(_description(spec.plan)))
    except OSError as error:
        raise BackendError(
            f"the plan of {len(content) / 2**20:.0f} MiB cannot be written to {path.parent} "
            f"({error.strerror}); free space there, or set EMBEDMILL_CACHE_PATH to a writable folder"
        ) from error


def read_plan(path: Path, key: str) -> memoryview:
    """TensorRT's bytes of the plan. Raises BackendError if it is damaged or does not have that key."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackendError(f"{path} cannot be read ({error.strerror}); {_REBUILD}") from error
    end = content.find(b"\n", 0, _MAX_HEADER_BYTES)
    header = _header(content[: max(end, 0)])
    if header is None:
        raise BackendError(f"{path} is not an Embedmill plan; {_REBUILD}")
    if header.key != key:
        raise BackendError(f"{path} does not contain the plan that its name promises; {_REBUILD}")
    plan = memoryview(content)[end + 1 :]
    if hashlib.sha256(plan).hexdigest() != header.sha256:
        raise BackendError(f"{path} is damaged or incomplete; {_REBUILD}")
    return plan


def _header(line: bytes) -> _Header | None:
    try:
        header = msgspec.json.decode(line, type=_Header)
    except (ValueError, RecursionError):
        return None
    return header if header.format == _FORMAT else None


def _description(plan: Plan) -> dict[str, Any]:
    """The plan's description in the format that `selection` reads."""
    return asdict(plan) | {"capability": "{}.{}".format(*plan.capability)}
