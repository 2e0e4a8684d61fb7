"""Counts the CPUs that this process may use."""

import os
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus(cpu_max: Path = _CPU_MAX) -> int:
    """The number of CPUs in the affinity mask, limited by the cgroup's quota; at least 1.

    In a container, os.cpu_count() counts the host's CPUs; one thread for each would exceed the quota and be
    throttled.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):
        return allowed
    if quota == "max":
        return allowed
    return max(1, min(allowed, round(int(quota) / int(period))))
