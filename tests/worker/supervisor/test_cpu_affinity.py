"""A worker's processors: those beside its GPU."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from worker.supervisor.cpu_affinity import pin_to_local_cpus

ADDRESS = "0000:1b:00.0"
needs_two_cpus = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")


class NvmlError(Exception):
    """As pynvml's."""


def nvml(bus_id: object = b"00000000:1B:00.0") -> Any:
    """A driver with one GPU, `GPU-0`, and one slice of it, `MIG-0`."""

    def by_uuid(uuid: str) -> str:
        if uuid not in ("GPU-0", "MIG-0"):
            raise NvmlError
        return uuid

    def info(handle: str) -> Any:
        assert handle == "GPU-0"
        return SimpleNamespace(busId=bus_id)

    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle=lambda handle: "GPU-0",
        nvmlDeviceGetPciInfo=info,
    )


def machine(root: Path, cpus: str) -> Path:
    folder = root / "sys/bus/pci/devices" / ADDRESS
    folder.mkdir(parents=True)
    (folder / "local_cpulist").write_text(f"{cpus}\n")
    return root


@pytest.fixture(autouse=True)
def allowed() -> Iterator[set[int]]:
    """What this process may use, given back afterwards."""
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


@needs_two_cpus
@pytest.mark.parametrize("uuid", ["GPU-0", "MIG-0"])
def test_only_the_cpus_beside_the_gpu_are_used(tmp_path: Path, allowed: set[int], uuid: str) -> None:
    """A GPU and a slice of it; CPUs that the process may not use stay out of it."""
    local = min(allowed)
    pin_to_local_cpus(uuid, root=machine(tmp_path, f"{local},4000-4007"), nvml=nvml())
    assert os.sched_getaffinity(0) == {local}


@pytest.mark.parametrize(
    ("cpus", "uuid", "bus_id"),
    [
        ("4000-4007", "GPU-0", "00000000:1B:00.0"),  # none of ours
        ("", "GPU-0", "00000000:1B:00.0"),  # one socket, and a kernel without NUMA
        ("0", "GPU-9", "00000000:1B:00.0"),  # a GPU the driver does not know
        ("0", "GPU-0", "00000000:AA:00.0"),  # a virtual machine that hides the bus
        ("nonsense", "GPU-0", "00000000:1B:00.0"),
    ],
)
def test_where_nobody_tells_nothing_changes(
    tmp_path: Path, allowed: set[int], cpus: str, uuid: str, bus_id: str
) -> None:
    """Every CPU stays in use, and no error stops the worker."""
    pin_to_local_cpus(uuid, root=machine(tmp_path, cpus), nvml=nvml(bus_id))
    assert os.sched_getaffinity(0) == allowed
