"""What each GPU of a machine chooses: its worker process sees no other, so different GPUs may differ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from selection.choice import Choice
from selection.machine.facts import Facts, Gpu
from selection.story import explain, obstacles


@dataclass(frozen=True, slots=True)
class GpuChoice:
    """The choice of a worker process that sees only this GPU."""

    gpu: Gpu
    choice: Choice

    @property
    def serves(self) -> bool:
        """True if a worker process is started for the GPU: one that would serve on the CPU is not."""
        return self.choice.selected is not None and self.choice.selected.device != "cpu"


def is_mixed(each_gpu: Sequence[GpuChoice]) -> bool:
    """True if a GPU serves, and not all choose alike and for the same reasons."""
    return any(one.serves for one in each_gpu) and len(_alike(each_gpu)) > 1


def explain_fleet(facts: Facts, each_gpu: Sequence[GpuChoice]) -> str:
    """The explanation of each GPU's choice, those that choose alike together; ends with a newline."""
    lines = ["The GPUs of this machine do not choose alike; a worker process serves on each that can."]
    for alike in _alike(each_gpu):
        lines += ["", f"{_names(alike)}:", *_story(facts, alike[0])]
    return "\n".join(lines) + "\n"


def fleet_lines(each_gpu: Sequence[GpuChoice]) -> Iterator[str]:
    """A line on what each GPU selects, for the end of the listing."""
    for alike in _alike(each_gpu):
        one, names = alike[0], _names(alike)
        if one.serves and one.choice.selected is not None:
            yield f"Selected on {names}: {one.choice.selected.id} ({one.choice.selected.name})"
        else:
            yield f"Selected on {names}: nothing, no worker process serves there"


def _alike(each_gpu: Sequence[GpuChoice]) -> list[list[GpuChoice]]:
    """GPUs with equal verdicts on every profile together, in the order of the machine."""
    groups: dict[tuple[object, ...], list[GpuChoice]] = {}
    for one in each_gpu:
        verdicts = [(each.profile.id, each.standing, each.reason) for each in one.choice.verdicts]
        groups.setdefault((one.gpu.name, one.choice.error, *verdicts), []).append(one)
    return list(groups.values())


def _names(alike: Sequence[GpuChoice]) -> str:
    gpu, numbers = alike[0].gpu, ", ".join(str(each.gpu.index) for each in alike)
    kind = f"{gpu.name}, MIG slice {gpu.mig_slice}" if gpu.mig_slice else gpu.name
    return f"GPU{'s' if len(alike) > 1 else ''} {numbers} ({kind})"


def _story(facts: Facts, one: GpuChoice) -> list[str]:
    choice, alone = one.choice, replace(facts, gpus=(one.gpu,))
    if one.serves or choice.selected is None:
        return explain(alone, choice).splitlines()
    on_gpu = [each for each in choice.verdicts if each.profile.device != "cpu"]
    return ["No worker process serves on it:", *obstacles(on_gpu, alone)]
