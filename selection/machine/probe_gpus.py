"""Asks the NVIDIA driver, through NVML, which GPUs exist and which of them this process may use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from selection.machine.facts import Gpu, HiddenGpu
from selection.machine.visibility import split_visible

_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """What was found; `note` says why no GPU is visible, `notes` what else the user should know."""

    visible: tuple[Gpu, ...] = ()
    hidden: tuple[HiddenGpu, ...] = ()
    note: str = ""
    notes: tuple[str, ...] = ()
    driver_version: str | None = None
    driver_cuda: str | None = None


def find_gpus(environ: Mapping[str, str], *, root: Path = Path("/"), nvml: Any = None) -> Gpus:
    """The GPUs that the driver reports. `nvml` is a module with pynvml's functions; None means pynvml."""
    if nvml is None:
        try:
            import pynvml
        except ImportError:
            return Gpus(note=_note(root, "the package nvidia-ml-py is not installed", cure="install it"))
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        is_absent = isinstance(error, nvml.NVMLError_LibraryNotFound | nvml.NVMLError_DriverNotLoaded)
        cure = _install(root) if is_absent else "the driver is broken; reload it or restart the machine"
        return Gpus(note=_note(root, f"NVML cannot be initialized: {error}", cure=cure))
    try:
        return _ask(nvml, environ)
    except nvml.NVMLError as error:
        return Gpus(note=f"the NVIDIA driver reports an error: {error}; reload it or restart the machine")
    finally:
        nvml.nvmlShutdown()


def _ask(nvml: Any, environ: Mapping[str, str]) -> Gpus:
    devices: list[Gpu] = []
    notes: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            found = _devices(nvml, index)
        except nvml.NVMLError as error:
            notes.append(f"GPU {index} does not respond: {error}")
            continue
        if not found:
            notes.append(f"GPU {index} is in MIG mode but has no slice; create one, or turn MIG off")
        devices += found
    visible, hidden = split_visible(devices, environ)
    cuda = _asked(nvml, nvml.nvmlSystemGetCudaDriverVersion)
    return Gpus(
        visible=visible,
        hidden=hidden,
        note="" if visible else _why_none(devices, hidden, environ),
        notes=tuple(notes),
        driver_version=_asked(nvml, nvml.nvmlSystemGetDriverVersion),
        driver_cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
    )


def _why_none(devices: list[Gpu], hidden: tuple[HiddenGpu, ...], environ: Mapping[str, str]) -> str:
    if hidden:
        return hidden[0].reason
    if environ.get("NVIDIA_VISIBLE_DEVICES") in ("none", "void"):
        return (
            f"NVIDIA_VISIBLE_DEVICES={environ['NVIDIA_VISIBLE_DEVICES']} hides every GPU from this container"
        )
    return "" if devices else "the NVIDIA driver is loaded but finds no usable GPU"


def _devices(nvml: Any, index: int) -> list[Gpu]:
    """The GPU itself, or its slices if it is in MIG mode: then it cannot be used as a whole."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    mode = _asked(nvml, nvml.nvmlDeviceGetMigMode, handle)
    if mode is None or mode[0] == 0:
        return [_gpu(nvml, handle, handle, index)]
    slots = range(_asked(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0)
    slices = [_asked(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, slot) for slot in slots]
    return [_gpu(nvml, handle, each, index) for each in slices if each is not None]


def _gpu(nvml: Any, parent: Any, handle: Any, index: int) -> Gpu:
    """`handle` is the parent itself or one of its slices; what a slice does not report is the parent's."""
    product = str(nvml.nvmlDeviceGetName(parent))
    own_name = str(nvml.nvmlDeviceGetName(handle))
    memory = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    pci = _asked(nvml, nvml.nvmlDeviceGetPciInfo, parent)
    rates = None if handle is not parent else _asked(nvml, nvml.nvmlDeviceGetUtilizationRates, parent)
    capability = _asked(nvml, nvml.nvmlDeviceGetCudaComputeCapability, parent)
    return Gpu(
        index=index,
        name=product,
        pci_id=f"{pci.pciDeviceId >> 16:04x}:{pci.pciDeviceId & 0xFFFF:04x}" if pci else None,
        uuid=str(_asked(nvml, nvml.nvmlDeviceGetUUID, handle) or ""),
        capability=(int(capability[0]), int(capability[1])) if capability else None,
        memory_total_bytes=int(memory.total) if memory else None,
        memory_free_bytes=int(memory.free) if memory else None,
        utilization_percent=int(rates.gpu) if rates else None,
        mig_slice="" if handle is parent else own_name.rpartition("MIG ")[2],
    )


_Answer = TypeVar("_Answer")


def _asked(nvml: Any, question: Callable[..., _Answer], *arguments: Any) -> _Answer | None:
    """The driver's answer, or None if this GPU or driver has none; NVML offers no way to check first."""
    try:
        return question(*arguments)
    except (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_NotFound,
        nvml.NVMLError_NoPermission,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_InvalidArgument,
    ):
        return None


def _note(root: Path, what: str, *, cure: str) -> str:
    on_bus = _gpus_on_bus(root)
    if not on_bus:
        return f"no NVIDIA GPU was found ({what})"
    return f"an NVIDIA GPU is on the PCI bus ({', '.join(on_bus)}) but cannot be used: {what}; {cure}"


def _install(root: Path) -> str:
    """A loaded kernel module without its library means a container without access to the GPU."""
    if (root / "proc/driver/nvidia/version").exists():
        return "give the container the GPU (docker run --gpus all, the NVIDIA container toolkit)"
    return "install the NVIDIA driver"


def _gpus_on_bus(root: Path) -> list[str]:
    found = []
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            vendor, device, kind = (
                (folder / name).read_text().strip() for name in ("vendor", "device", "class")
            )
        except OSError:
            continue
        if vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASS):
            found.append(f"{device.removeprefix('0x')}:10de")
    return found
