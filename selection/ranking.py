"""Ranks profiles in a total order, so that two workers on equal machines agree."""

from collections.abc import Sequence

from selection.machine.facts import Gpu
from selection.manifests.manifest import BACKENDS, DEVICES, PRECISIONS, Profile

#: On a GPU our PyTorch encoder comes before ONNX Runtime's graph (three times its rate on an H100); on a CPU
#: it has half of ONNX Runtime's (docs/lab/selection.md).
_BACKENDS = {
    "cuda": ("tensorrt", "torch", "onnx", "transformers", "fake"),
    "cpu": ("onnx", "torch", "transformers", "fake"),
}

Rank = tuple[int, bool, int, int, int, str]


def rank(profile: Profile) -> Rank:
    """Smaller is better: GPU before CPU, optimized before generic, backend, precision, match, then the id."""
    return (
        _place(DEVICES, profile.device),
        profile.generic,
        _place(_BACKENDS.get(profile.device, BACKENDS), profile.backend),
        _place(PRECISIONS, profile.precision),
        _distance(profile),
        profile.id,
    )


def device_place(gpu: Gpu | None, order: Sequence[Gpu]) -> int:
    """The position of the device among those of the machine; the CPU comes last."""
    return len(order) if gpu is None else order.index(gpu)


def _place(order: Sequence[str], value: str) -> int:
    """The position in the order; unknown names from a foreign manifest come last."""
    return order.index(value) if value in order else len(order)


def _distance(profile: Profile) -> int:
    requires = profile.requires
    if requires.names_gpu:
        return 0
    return 1 if requires.capabilities or requires.cpu_features else 2 if requires.min_capability else 3
