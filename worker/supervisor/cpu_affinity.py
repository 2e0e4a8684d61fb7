"""Keeps a worker on the processors beside its GPU: what crosses between sockets is slower."""

import os
from pathlib import Path
from typing import Any

import structlog

log = structlog.stdlib.get_logger(__name__)


def stay_near(uuid: str, *, root: Path = Path("/"), nvml: Any = None) -> None:
    """Bind this thread, and those it starts, to the CPUs of the GPU's own socket, as the kernel lists them.

    CPUs this process may not use stay out of it; if none is left, or nobody tells, nothing changes. Call it
    before any thread is started. `nvml` is a module with pynvml's functions; None takes pynvml itself.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    bus = _bus_address(uuid, nvml)
    try:
        listed = (root / "sys/bus/pci/devices" / bus / "local_cpulist").read_text() if bus else ""
        allowed = os.sched_getaffinity(0)
        near = _cpus(listed) & allowed
        if near and near != allowed:
            os.sched_setaffinity(0, near)
            log.info("cpu_affinity", cpus=len(near), allowed_cpus=len(allowed), gpu=bus)
    except (OSError, ValueError) as error:
        log.debug("cpu_affinity_unset", error=str(error))


def _bus_address(uuid: str, nvml: Any) -> str:
    """As sysfs writes it, `0000:1b:00.0`; empty if the driver does not tell. A MIG slice has its GPU's."""
    if nvml is None:
        try:
            import pynvml
        except ImportError:
            return ""
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ""
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        if uuid.startswith("MIG-"):
            handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        address = nvml.nvmlDeviceGetPciInfo(handle).busId  # with a domain of eight digits
    except nvml.NVMLError:
        return ""
    finally:
        nvml.nvmlShutdown()
    text = address.decode() if isinstance(address, bytes) else str(address)
    return text.lower()[-len("0000:00:00.0") :]


def _cpus(listed: str) -> set[int]:
    """`0-3,8` as numbers."""
    found: set[int] = set()
    for part in filter(None, listed.strip().split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
