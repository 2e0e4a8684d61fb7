"""Counts the CPUs that this process may use."""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus(cgroups: Path = _CGROUPS) -> int:
    """The number of CPUs in the affinity mask, limited by the cgroup's quota; at least 1.

    In a container, os.cpu_count() counts the host's CPUs; one thread for each would exceed the quota and be
    throttled. `cgroups` is where the kernel shows the container's own group.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return allowed if quota is None else max(1, min(allowed, round(quota)))


def _quota(cgroups: Path) -> float | None:
    """The group's CPUs: version 2's `cpu.max`, else version 1's two files; None without a limit."""
    v1 = cgroups / "cpu"  # a link to cpu,cpuacct where these are one
    for files in ([cgroups / "cpu.max"], [v1 / "cpu.cfs_quota_us", v1 / "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join(path.read_text() for path in files).split()
            return int(quota) / int(period) if quota not in ("max", "-1") else None
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return None
