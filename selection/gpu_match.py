"""Judges whether a profile fits a GPU: by capability, exact model name or PCI id, and number of GPUs."""

import re

from selection.machine.facts import Capability, Facts, Gpu, format_capability
from selection.machine.skus import sku_of
from selection.manifests.manifest import Profile
from selection.verdict import Cause, Obstacle

#: The lowest capability whose tensor cores support the precision.
_PRECISION_FLOOR: dict[str, Capability] = {"fp8": (8, 9), "bf16": (8, 0)}


def unfit_gpu(profile: Profile, facts: Facts, gpu: Gpu) -> Obstacle | None:
    """Why the profile does not fit this GPU, or None."""
    return _capability(profile, gpu) or _model(profile, gpu) or _number(profile, facts, gpu)


def wanted_gpu(profile: Profile) -> str:
    """Which GPU the profile is for, to follow `a GPU`; empty if any will do."""
    if profile.requires.capabilities:
        return f" of compute capability {_either(profile.requires.capabilities)}"
    if profile.requires.names_gpu:
        return f" of the model {_models(profile)}"
    floor = _floor(profile)
    return f" of compute capability {format_capability(floor)} or more" if floor > (0, 0) else ""


def _capability(profile: Profile, gpu: Gpu) -> Obstacle | None:
    exact, floor = profile.requires.capabilities, _floor(profile)
    if gpu.capability is None:
        asks_any = bool(exact) or floor > (0, 0)
        return (
            Obstacle(Cause.CAPABILITY, "the driver does not report its compute capability")
            if asks_any
            else None
        )
    here = f"this GPU has {format_capability(gpu.capability)}"
    if exact and gpu.capability not in exact:
        return Obstacle(Cause.CAPABILITY, f"is for compute capability {_either(exact)}, {here}")
    if gpu.capability < floor:
        what = f"{profile.precision} needs" if _PRECISION_FLOOR.get(profile.precision) == floor else "needs"
        return Obstacle(
            Cause.CAPABILITY, f"{what} compute capability {format_capability(floor)} or more, {here}"
        )
    return None


def _model(profile: Profile, gpu: Gpu) -> Obstacle | None:
    requires = profile.requires
    if not requires.names_gpu:
        return None
    if gpu.mig_slice:
        reason = f"is for a whole {_models(profile)}, this is its MIG slice {gpu.mig_slice}"
        return Obstacle(Cause.GPU_MODEL, reason)
    device = (gpu.pci_id or "").partition(":")[0]
    fits = (
        sku_of(gpu) in requires.gpus
        or bool(device and {device, gpu.pci_id} & set(requires.pci_ids))
        or bool(requires.gpu_pattern and re.match(requires.gpu_pattern, gpu.name.replace(" ", "-")))
    )
    if fits:
        return None
    return Obstacle(Cause.GPU_MODEL, f"is for the GPU model {_models(profile)}, this is {gpu.name}")


def _number(profile: Profile, facts: Facts, gpu: Gpu) -> Obstacle | None:
    equal = [each for each in facts.gpus if (each.name, each.mig_slice) == (gpu.name, gpu.mig_slice)]
    wanted = profile.requires.num_gpus
    if len(equal) >= wanted:
        return None
    return Obstacle(Cause.NUM_GPUS, f"needs {wanted} equal GPUs, {len(equal)} available here")


def _floor(profile: Profile) -> Capability:
    return max(profile.requires.min_capability or (0, 0), _PRECISION_FLOOR.get(profile.precision, (0, 0)))


def _models(profile: Profile) -> str:
    requires = profile.requires
    return " or ".join(filter(None, (*requires.gpus, *requires.pci_ids, requires.gpu_pattern)))


def _either(capabilities: tuple[Capability, ...]) -> str:
    return " or ".join(format_capability(each) for each in capabilities)
