"""The facts about a machine that decide on a profile, frozen; nothing here probes."""

from dataclasses import dataclass

Capability = tuple[int, int]


def parse_capability(given: object) -> Capability:
    """The compute capability in `9.0`, a text or a number. Raises ValueError for any other form."""
    text = str(given)
    major, dot, minor = text.partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise ValueError(f"a compute capability has the form 9.0, not {text!r:.60}")
    return int(major), int(minor)


def format_capability(capability: Capability) -> str:
    """The capability as people and JSON write it: `9.0`."""
    return f"{capability[0]}.{capability[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One CUDA device: a whole GPU, or one MIG slice of it (`mig_slice` such as `1g.10gb`, else empty).

    `index` counts in PCI bus order, as the driver does; `uuid` is what CUDA_VISIBLE_DEVICES takes.
    `pci_id` is `device:vendor`, four lower-case hex digits each. None: the driver did not report it.
    """

    index: int
    name: str
    pci_id: str | None = None
    uuid: str = ""
    capability: Capability | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    utilization_percent: int | None = None
    mig_slice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenGpu:
    """A GPU of this machine that this process may not use, and why."""

    gpu: Gpu
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor; `architecture` as the kernel names it (`x86_64`), `features` as in /proc/cpuinfo."""

    architecture: str
    name: str = ""
    num_cores: int = 1
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An installed inference library; `cuda` is the CUDA version it was built for, None for a CPU build."""

    name: str
    version: str
    cuda: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A TensorRT plan in the cache, and everything that must match before it can be loaded.

    `level` is `none` (only for the GPU model that built it) or `same-capability`.
    """

    profile_id: str
    library: str
    version: str
    os: str
    cpu_architecture: str
    level: str
    capability: Capability
    gpu_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One machine as a worker finds it.

    `gpu_note` explains why `gpus` is empty, or is empty itself; `notes` are further sentences for people.
    `memory_available_bytes` is what this process can still allocate, given its cgroup.
    """

    cpu: Cpu
    os: str = "linux"
    gpus: tuple[Gpu, ...] = ()
    hidden: tuple[HiddenGpu, ...] = ()
    gpu_note: str = ""
    driver_version: str | None = None
    driver_cuda: str | None = None
    memory_total_bytes: int | None = None
    memory_limit_bytes: int | None = None
    memory_available_bytes: int | None = None
    runtimes: tuple[Runtime, ...] = ()
    plans: tuple[Plan, ...] = ()
    notes: tuple[str, ...] = ()
    cpu_only: bool = False

    def runtime(self, name: str) -> Runtime | None:
        """The installed library of that name, or None."""
        return next((runtime for runtime in self.runtimes if runtime.name == name), None)
