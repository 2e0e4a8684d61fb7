"""Describes the machine for people: NIM's SYSTEM INFO section, with what NIM omits."""

from selection.machine.facts import Facts, Gpu, format_capability
from selection.machine.skus import sku_of

#: Below this share of free memory a GPU is listed as non-free; selection itself counts bytes.
_FREE_SHARE = 0.1
_SHOWN_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "amx_int8", "asimd", "sve")


def system_info(facts: Facts) -> list[str]:
    """SYSTEM INFO as lines: free, non-free and hidden GPUs, driver, processor, memory, libraries, notes."""
    free = [gpu for gpu in facts.gpus if _is_free(gpu)]
    busy = [gpu for gpu in facts.gpus if not _is_free(gpu)]
    lines = ["SYSTEM INFO", *_section("Free GPUs", [_gpu(gpu) for gpu in free])]
    if busy:
        lines += _section("Non-free GPUs", [_gpu(gpu) for gpu in busy])
    if facts.hidden:
        lines += _section("Hidden GPUs", [f"{_gpu(each.gpu)}: {each.reason}" for each in facts.hidden])
    if facts.driver_version:
        cuda = f" (up to CUDA {facts.driver_cuda})" if facts.driver_cuda else ""
        lines.append(f"- Driver: {facts.driver_version}{cuda}")
    lines += [f"- CPU: {_cpu(facts)}", f"- Memory: {_memory(facts)}"]
    libraries = [
        f"{each.name} {each.version}{f' (CUDA {each.cuda})' if each.cuda else ''}" for each in facts.runtimes
    ]
    lines.append(f"- Libraries: {', '.join(libraries) or '<None>'}")
    notes = [note for note in (facts.gpu_note, *facts.notes) if note]
    return lines + [f"- Note: {note}" for note in notes]


def gib(num_bytes: int) -> str:
    """Human-readable bytes: `79.2 GiB`."""
    return f"{num_bytes / 1024**3:.1f} GiB"


def _section(title: str, entries: list[str]) -> list[str]:
    return [f"- {title}:", *(f"  -  {each}" for each in entries)] if entries else [f"- {title}: <None>"]


def _is_free(gpu: Gpu) -> bool:
    if gpu.memory_total_bytes is None or gpu.memory_free_bytes is None:
        return True
    return gpu.memory_free_bytes >= _FREE_SHARE * gpu.memory_total_bytes


def _gpu(gpu: Gpu) -> str:
    parts = [f"[{gpu.pci_id or '????:????'}] ({gpu.index}) {gpu.name}"]
    if model := (f"MIG slice {gpu.mig_slice}" if gpu.mig_slice else sku_of(gpu)):
        parts.append(f"({model})")
    if gpu.capability:
        parts.append(f"[compute capability: {format_capability(gpu.capability)}]")
    if gpu.utilization_percent is not None:
        parts.append(f"[current utilization: {gpu.utilization_percent}%]")
    if gpu.memory_total_bytes is None:
        parts.append("[memory shared with the host]")
    elif gpu.memory_free_bytes is not None:
        parts.append(f"[{gib(gpu.memory_free_bytes)} of {gib(gpu.memory_total_bytes)} free]")
    return " ".join(parts)


def _cpu(facts: Facts) -> str:
    features = [each for each in _SHOWN_FEATURES if each in facts.cpu.features]
    cores = f"{facts.cpu.num_cores} core{'s' if facts.cpu.num_cores != 1 else ''}"
    return ", ".join(
        filter(None, [facts.cpu.name, facts.os, facts.cpu.architecture, cores, " ".join(features)])
    )


def _memory(facts: Facts) -> str:
    parts = []
    if facts.memory_total_bytes is not None:
        parts.append(gib(facts.memory_total_bytes))
    if facts.memory_limit_bytes is not None and facts.memory_limit_bytes < (facts.memory_total_bytes or 0):
        parts.append(f"limited to {gib(facts.memory_limit_bytes)} by its cgroup")
    if facts.memory_available_bytes is not None:
        parts.append(f"{gib(facts.memory_available_bytes)} available")
    return ", ".join(parts) or "unknown"
