"""Tables of what inference libraries support on which GPU; docs/explanation/selection.md has the sources."""

from selection.machine.facts import Capability, Facts, Gpu, Runtime, format_capability
from selection.manifests.manifest import Profile
from selection.verdict import Cause, Obstacle

#: CUDA major version -> the lowest capability it compiles for.
_CUDA_FLOOR: dict[int, Capability] = {13: (7, 5), 12: (5, 0)}
_TENSORRT_FLOOR: Capability = (7, 5)
_TENSORRT_RTX: tuple[Capability, ...] = ((8, 0), (8, 6), (8, 9))
_TENSORRT_RTX_FROM: Capability = (12, 0)

#: (backend, device) -> libraries that run it, preferred first, and the extra that installs one
_LIBRARIES: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {
    ("tensorrt", "cuda"): (("tensorrt", "tensorrt_rtx"), "tensorrt"),
    ("onnx", "cuda"): (("onnxruntime-gpu",), "gpu"),
    ("onnx", "cpu"): (("onnxruntime", "onnxruntime-gpu"), "cpu"),
    ("torch", "cuda"): (("torch",), "torch"),
    ("torch", "cpu"): (("torch",), "torch"),
    ("transformers", "cuda"): (("torch",), "transformers"),
    ("transformers", "cpu"): (("torch",), "transformers"),
}
#: backend -> a second library that it needs
_BESIDE = {"transformers": "transformers"}


def library_for(profile: Profile, facts: Facts, *, gpu: Gpu | None) -> Runtime | None:
    """The installed library that runs the profile on that device, or None."""
    names = _LIBRARIES.get((profile.backend, profile.device), ((), ""))[0]
    beside = _BESIDE.get(profile.backend)
    if beside is not None and facts.runtime(beside) is None:
        return None
    installed = [runtime for name in names if (runtime := facts.runtime(name))]
    return next((each for each in installed if not _refusal(each, facts, gpu=gpu)), None)


def missing_library(profile: Profile, facts: Facts, *, gpu: Gpu | None) -> Obstacle | None:
    """Why no installed library runs the profile on that device, or None if one does."""
    if profile.backend == "fake" or library_for(profile, facts, gpu=gpu):
        return None
    names, extra = _LIBRARIES.get((profile.backend, profile.device), ((), ""))
    if not names:
        reason = f"there is no backend {profile.backend} for {profile.device}"
        return Obstacle(Cause.LIBRARY, reason)
    refusals = [_refusal(runtime, facts, gpu=gpu) for name in names if (runtime := facts.runtime(name))]
    first = next((name for name in names if facts.runtime(name) is None), _BESIDE.get(profile.backend))
    absent = f"{first} is not installed (pip install 'embedmill[{extra}]')"
    return Obstacle(Cause.LIBRARY, "; ".join(refusals) or absent)


def supports(runtime: Runtime, capability: Capability) -> bool:
    """True if the library has or can compile kernels for GPUs of that capability."""
    if runtime.name == "tensorrt_rtx":
        return capability in _TENSORRT_RTX or capability >= _TENSORRT_RTX_FROM
    if runtime.name == "tensorrt" and capability < _TENSORRT_FLOOR:
        return False
    major = _major(runtime.cuda)
    return major is None or capability >= _CUDA_FLOOR.get(major, (0, 0))


def _refusal(runtime: Runtime, facts: Facts, *, gpu: Gpu | None) -> str:
    if gpu is None:
        return ""
    what = f"{runtime.name} {runtime.version}"
    if runtime.cuda is None and runtime.name == "torch":
        return f"{what} is a CPU build; install a CUDA build"
    if gpu.capability and not supports(runtime, gpu.capability):
        built = f" (CUDA {runtime.cuda})" if runtime.cuda else ""
        return f"{what}{built} does not support compute capability {format_capability(gpu.capability)}"
    needed, offered = _major(runtime.cuda), _major(facts.driver_cuda)
    if needed and offered and needed > offered:
        return (
            f"{what} needs CUDA {needed}, driver {facts.driver_version} supports {facts.driver_cuda}; "
            "update the driver"
        )
    return ""


def _major(version: str | None) -> int | None:
    head = (version or "").partition(".")[0]
    return int(head) if head.isdecimal() else None
