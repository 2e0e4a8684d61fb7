"""Splits GPUs into those visible to this process and hidden ones, by CUDA's own rules."""

from collections.abc import Mapping, Sequence

from selection.machine.facts import Gpu, HiddenGpu

_VARIABLE = "CUDA_VISIBLE_DEVICES"


def split_visible(
    gpus: Sequence[Gpu], environ: Mapping[str, str]
) -> tuple[tuple[Gpu, ...], tuple[HiddenGpu, ...]]:
    """The GPUs this process may use, and the hidden ones with the reason.

    As in CUDA, entries are indices or prefixes of UUIDs, and the list ends at the first invalid entry.
    Indices are in PCI bus order here; CUDA counts the fastest first unless CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    listed = environ.get(_VARIABLE)
    if listed is None:
        return tuple(gpus), ()
    visible: list[Gpu] = []
    for entry in listed.split(","):
        found = _named(entry.strip(), gpus)
        if found is None or found in visible:
            break
        visible.append(found)
    reason = f"hidden by {_VARIABLE}={listed}"
    hidden = tuple(HiddenGpu(gpu=gpu, reason=reason) for gpu in gpus if gpu not in visible)
    return tuple(visible), hidden


def _named(entry: str, gpus: Sequence[Gpu]) -> Gpu | None:
    if entry.isdecimal():
        whole = [gpu for gpu in gpus if gpu.index == int(entry)]
        return whole[0] if whole else None
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    found = [gpu for gpu in gpus if gpu.uuid.startswith(entry)]
    return found[0] if len(found) == 1 else None
