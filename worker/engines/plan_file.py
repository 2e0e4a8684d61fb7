"""A plan on disk: one line of JSON that says what it is, then TensorRT's bytes; whole or absent."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from producer.atomic import replace_file
from producer.errors import BackendError
from selection.machine.facts import Plan
from worker.engines.spec import EngineSpec

_FORMAT = "embedmill-plan"
_AGAIN = "remove it and run `worker build-engines`"

@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPlan:
    """A plan in the cache. `seconds` is how long it took to build, 0 for one that was there."""

    path: Path
    spec: EngineSpec
    seconds: float = 0.0

def plan_path(folder: Path, spec: EngineSpec) -> Path:
    """Where the plan lies below the cache's folder of plans; its description has the suffix .json."""
    return folder / spec.plan.profile_id[:16] / f"{spec.key}.plan"

def write_plan(path: Path, spec: EngineSpec, content: bytes) -> None:
    """Keep a plan and, once it is whole, its description. Raises BackendError if the cache cannot hold it."""
    head = {"format": _FORMAT, "key": spec.key, "sha256": hashlib.sha256(content).hexdigest()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(head).encode() + b"\n", content)
        replace_file(path.with_suffix(".json"), json.dumps(_described(spec.plan)).encode())
    except OSError as error:
        raise BackendError(
            f"the plan of {len(content) / 2**20:.0f} MiB cannot be kept in {path.parent} ({error.strerror}); "
            "free space there or set EMBEDMILL_CACHE_PATH to a folder that can be written"
        ) from error

def read_plan(path: Path, spec: EngineSpec) -> memoryview:
    """TensorRT's bytes of the plan. Raises BackendError if the file is damaged or not this plan."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackendError(f"the plan {path} cannot be read ({error.strerror}); {_AGAIN}") from error
    end = content.find(b"\n", 0, 1024)
    head = _head(content[: max(end, 0)])
    if head is None:
        raise BackendError(f"{path} is no plan of ours; {_AGAIN}")
    if head.get("key") != spec.key:
        raise BackendError(f"the plan {path} was built for something else than its name says; {_AGAIN}")
    plan = memoryview(content)[end + 1 :]
    if hashlib.sha256(plan).hexdigest() != head.get("sha256"):
        raise BackendError(f"the plan {path} is damaged or not whole; {_AGAIN}")
    return plan

def _head(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("format") == _FORMAT else None

def _described(plan: Plan) -> dict[str, Any]:
    """As `selection` reads it."""
    return asdict(plan) | {"capability": "{}.{}".format(*plan.capability)}
