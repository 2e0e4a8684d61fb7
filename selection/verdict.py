"""The verdict on one profile on one machine: its standing, and why."""

from dataclasses import dataclass
from enum import StrEnum

from selection.machine.facts import Gpu
from selection.manifests.manifest import Profile


class Standing(StrEnum):
    """Standings of profiles on a machine, best first."""

    RUNNABLE = "runnable"
    BUILDABLE = "buildable"  #: its TensorRT plan has to be built first
    LOW_MEMORY = "low_memory"  #: would run with more free memory or a smaller token budget
    EXCLUDED = "excluded"  #: could run, but the override or the tags exclude it
    FAILED = "failed"  #: was tried here and did not load or verify
    INCOMPATIBLE = "incompatible"


class Cause(StrEnum):
    """The obstacle between a profile and this machine; stable, for programs that read the JSON listing."""

    NONE = "none"
    NO_GPU = "no_gpu"
    CAPABILITY = "capability"
    GPU_MODEL = "gpu_model"
    NUM_GPUS = "num_gpus"
    OPERATING_SYSTEM = "operating_system"
    CPU_ARCHITECTURE = "cpu_architecture"
    CPU_FEATURE = "cpu_feature"
    LIBRARY = "library"
    MEMORY = "memory"
    PLAN = "plan"
    ASKED = "asked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A cause with its reason, which continues the sentence `this profile ...`."""

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One profile's standing with its reason in words, empty for a runnable one that needs none.

    `gpu` is the device judged; None for the CPU, or without a GPU. `needed_bytes` is the memory estimate at
    the token budget in force, `fitting_tokens` the budget that would fit.
    """

    profile: Profile
    standing: Standing
    cause: Cause = Cause.NONE
    reason: str = ""
    gpu: Gpu | None = None
    needed_bytes: int | None = None
    fitting_tokens: int | None = None
