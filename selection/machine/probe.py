"""Probes the machine: processor, memory and libraries here, GPUs in probe_gpus. No other code does."""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

from selection.machine.facts import Cpu, Facts, Plan
from selection.machine.facts_file import plan_from_dict
from selection.machine.probe_gpus import Gpus, find_gpus
from selection.machine.probe_runtimes import installed_runtimes

#: Kernels report "no limit" as a number near 2^63.
_NO_LIMIT_BYTES = 1 << 60


def probe(environ: Mapping[str, str], *, root: Path = Path("/")) -> Facts:
    """The facts about this machine; what is absent, broken or hidden is a fact with a note, never an error.

    `root` is the folder that has /proc and /sys. With NIM_CPU_ONLY=1 GPUs are not probed.
    """
    cpu_only = _is_set(environ, "EMBEDMILL_CPU_ONLY", "NIM_CPU_ONLY")
    gpus = (
        Gpus(note="NIM_CPU_ONLY is set, so GPUs are not used") if cpu_only else find_gpus(environ, root=root)
    )
    meminfo = _meminfo(root)
    limit, left = _cgroup_memory(root)
    available = [each for each in (meminfo.get("MemAvailable"), left) if each is not None]
    runtimes = installed_runtimes()
    names = {runtime.name for runtime in runtimes}
    clash = (
        ("onnxruntime and onnxruntime-gpu are both installed and overwrite each other; uninstall the first",)
        if {"onnxruntime", "onnxruntime-gpu"} <= names
        else ()
    )
    return Facts(
        cpu=_cpu(root),
        os=platform.system().lower(),
        gpus=gpus.visible,
        hidden=gpus.hidden,
        gpu_note=gpus.note,
        driver_version=gpus.driver_version,
        driver_cuda=gpus.driver_cuda,
        memory_total_bytes=meminfo.get("MemTotal"),
        memory_limit_bytes=limit,
        memory_available_bytes=min(available) if available else None,
        runtimes=runtimes,
        plans=tuple(_plans(environ)),
        notes=(*gpus.notes, *clash),
        cpu_only=cpu_only,
    )


def _is_set(environ: Mapping[str, str], *names: str) -> bool:
    return any(environ.get(name, "").strip().lower() in ("1", "true", "yes", "on") for name in names)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpu(root: Path) -> Cpu:
    found: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip().lower(), value.strip())
    features = (found.get("flags") or found.get("features") or "").split()
    return Cpu(
        architecture=platform.machine(),
        name=found.get("model name", ""),
        num_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        features=frozenset(features),
    )


def _meminfo(root: Path) -> dict[str, int]:
    """/proc/meminfo in bytes, by the kernel's names."""
    rows = (line.split() for line in _read(root / "proc/meminfo").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) > 1 and row[1].isdecimal()}


def _cgroup_memory(root: Path) -> tuple[int | None, int | None]:
    """The lowest limit of our cgroup and its parents, and the fewest bytes left under any."""
    limit: int | None = None
    left: int | None = None
    for folder, limit_file, usage_file in _cgroups(root):
        stated, used = _read(folder / limit_file).strip(), _read(folder / usage_file).strip()
        if not stated.isdecimal() or int(stated) >= _NO_LIMIT_BYTES:
            continue
        room = max(int(stated) - (int(used) if used.isdecimal() else 0), 0)
        limit = int(stated) if limit is None else min(limit, int(stated))
        left = room if left is None else min(left, room)
    return limit, left


def _cgroups(root: Path) -> Iterator[tuple[Path, str, str]]:
    """The folders to read, cgroup version 2 and 1, from our own group up to the root."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            top, files = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top, files = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            yield folder, *files
            if folder == top:
                break


def _plans(environ: Mapping[str, str]) -> Iterator[Plan]:
    """The plans in the cache: each `plans/**/*.json` describes one."""
    cache = environ.get("EMBEDMILL_CACHE_PATH") or environ.get("NIM_CACHE_PATH") or "~/.cache/embedmill"
    for path in sorted((Path(cache).expanduser() / "plans").glob("**/*.json")):
        try:
            yield plan_from_dict(json.loads(_read(path)))
        except ValueError:
            continue  # a plan whose description is damaged cannot be loaded: it counts as not built
