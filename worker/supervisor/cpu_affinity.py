"""Pins the process to the CPUs local to its GPU (NUMA affinity): traffic between sockets is slower."""

import os
from pathlib import Path
from typing import Any

import structlog

log = structlog.stdlib.get_logger(__name__)


def pin_to_local_cpus(gpu_uuid: str, *, root: Path = Path("/"), nvml: Any = None) -> None:
    """Pin this thread, and those it starts, to the CPUs that the kernel lists as local to the GPU.

    Uses only CPUs that this process may already use; nothing changes if none of them is local, or if the
    kernel or driver does not report it. Call it before any thread is started. `nvml` is a module with
    pynvml's functions, by default pynvml itself.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    bus = _bus_address(gpu_uuid, nvml)
    try:
        listed = (root / "sys/bus/pci/devices" / bus / "local_cpulist").read_text() if bus else ""
        allowed = os.sched_getaffinity(0)
        local = _cpus(listed) & allowed
        if local and local != allowed:
            os.sched_setaffinity(0, local)
            log.info("cpus_pinned", cpus=len(local), allowed_cpus=len(allowed), gpu=bus)
    except (OSError, ValueError) as error:
        log.debug("cpus_not_pinned", error=str(error))


def _bus_address(gpu_uuid: str, nvml: Any) -> str:
    """The PCI address as sysfs writes it, `0000:1b:00.0`; a MIG slice has its GPU's, `""` means unknown."""
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
        handle = nvml.nvmlDeviceGetHandleByUUID(gpu_uuid)
        if gpu_uuid.startswith("MIG-"):
            handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        address = nvml.nvmlDeviceGetPciInfo(handle).busId  # with a domain of eight digits
    except nvml.NVMLError:
        return ""
    finally:
        nvml.nvmlShutdown()
    text = address.decode() if isinstance(address, bytes) else str(address)
    return text.lower()[-len("0000:00:00.0") :]


def _cpus(listed: str) -> set[int]:
    """The numbers in a list such as `0-3,8`."""
    found: set[int] = set()
    for part in filter(None, listed.strip().split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
