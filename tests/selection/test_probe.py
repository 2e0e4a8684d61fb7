"""What the probe makes of this machine, of trees of /proc and /sys, and of drivers with every answer."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from selection import choose, manifest_for, probe
from selection.machine.probe_gpus import Gpus, find_gpus

GIB = 2**30


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@dataclass
class Card:
    """One GPU of the fake driver; `slices` are MIG slices as (name, GiB), None stands for MIG off."""

    name: str
    device: int
    capability: tuple[int, int]
    gib: int | None = 80
    slices: list[tuple[str, int]] | None = None
    broken: bool = False


@dataclass
class Driver:
    """NVML as pynvml offers it, over cards we made up."""

    cards: list[Card]
    init_error: int = 0
    open_count: int = field(default=0)

    NVMLError = pynvml.NVMLError

    def __getattr__(self, name: str) -> type[Exception]:
        if not name.startswith("NVMLError_"):
            raise AttributeError(name)
        return getattr(pynvml, name)  # type: ignore[no-any-return]

    def nvmlInit(self) -> None:
        if self.init_error:
            raise pynvml.NVMLError(self.init_error)
        self.open_count += 1

    def nvmlShutdown(self) -> None:
        self.open_count -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13000

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[int, int | None]:
        if self.cards[index].broken:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index, None

    def nvmlDeviceGetMigMode(self, handle: tuple[int, int | None]) -> list[int]:
        if self.cards[handle[0]].slices is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: tuple[int, int | None]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(
        self, handle: tuple[int, int | None], slot: int
    ) -> tuple[int, int]:
        if slot >= len(self.cards[handle[0]].slices or []):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return handle[0], slot

    def nvmlDeviceGetName(self, handle: tuple[int, int | None]) -> str:
        card, slot = self.cards[handle[0]], handle[1]
        return card.name if slot is None else f"{card.name} MIG {(card.slices or [])[slot][0]}"

    def nvmlDeviceGetUUID(self, handle: tuple[int, int | None]) -> str:
        return f"GPU-{handle[0]}aaa" if handle[1] is None else f"MIG-{handle[0]}{handle[1]}bbb"

    def nvmlDeviceGetMemoryInfo(self, handle: tuple[int, int | None]) -> SimpleNamespace:
        card, slot = self.cards[handle[0]], handle[1]
        size = card.gib if slot is None else (card.slices or [])[slot][1]
        if size is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(total=size * GIB, free=(size - 1) * GIB)

    def nvmlDeviceGetPciInfo(self, handle: tuple[int, int | None]) -> SimpleNamespace:
        return SimpleNamespace(pciDeviceId=self.cards[handle[0]].device << 16 | 0x10DE)

    def nvmlDeviceGetUtilizationRates(self, handle: tuple[int, int | None]) -> SimpleNamespace:
        return SimpleNamespace(gpu=7)

    def nvmlDeviceGetCudaComputeCapability(self, handle: tuple[int, int | None]) -> tuple[int, int]:
        return self.cards[handle[0]].capability


H100 = Card("NVIDIA H100 80GB HBM3", 0x2330, (9, 0))
L4 = Card("NVIDIA L4", 0x27B8, (8, 9), gib=24)


def asked(driver: Driver, tmp_path: Path, **environ: str) -> Gpus:
    return find_gpus(environ, root=tmp_path, nvml=driver)


def test_this_machine_has_facts() -> None:
    """The probe of this very machine knows its processor, its memory and onnxruntime."""
    facts = probe(os.environ)
    assert facts.cpu.architecture == os.uname().machine
    assert facts.cpu.num_cores >= 1
    assert facts.memory_available_bytes is not None
    assert facts.memory_available_bytes > 0
    assert facts.os == "linux"
    names = {runtime.name for runtime in facts.runtimes}
    assert names & {"onnxruntime", "onnxruntime-gpu"}
    assert facts.gpus or facts.gpu_note


def test_cpu_only_serves_minilm_on_the_cpu() -> None:
    """With NIM_CPU_ONLY=1 a machine with onnxruntime takes int8 or fp32, GPUs left alone and said so."""
    facts = probe({"NIM_CPU_ONLY": "1"})
    assert (facts.gpus, facts.cpu_only) == ((), True)
    assert "NIM_CPU_ONLY" in facts.gpu_note
    choice = choose(facts, manifest_for("all-MiniLM-L6-v2"), policy="rules")
    assert choice.selected is not None
    precision = "int8" if "avx512_vnni" in facts.cpu.features else "fp32"
    assert choice.selected.name == f"cpu-{precision}-onnx"


def test_gpu(tmp_path: Path) -> None:
    """A GPU's name, ids, capability, memory and use are read, with the driver's versions; NVML is closed."""
    driver = Driver([H100])
    found = asked(driver, tmp_path)
    (gpu,) = found.visible
    assert (gpu.name, gpu.pci_id, gpu.uuid) == ("NVIDIA H100 80GB HBM3", "2330:10de", "GPU-0aaa")
    assert (gpu.capability, gpu.utilization_percent, gpu.mig_slice) == ((9, 0), 7, "")
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (80 * GIB, 79 * GIB)
    assert (found.driver_version, found.driver_cuda, found.note) == ("580.95.05", "13.0", "")
    assert driver.open_count == 0


def test_mig_slices_replace_their_gpu(tmp_path: Path) -> None:
    """A GPU in MIG mode is its slices, each with its own memory and uuid; one without slices is a note."""
    sliced = Card("NVIDIA H100 80GB HBM3", 0x2330, (9, 0), slices=[("3g.40gb", 40), ("1g.10gb", 10)])
    empty = Card("NVIDIA H100 80GB HBM3", 0x2330, (9, 0), slices=[])
    found = asked(Driver([sliced, empty, L4]), tmp_path)
    assert [gpu.mig_slice for gpu in found.visible] == ["3g.40gb", "1g.10gb", ""]
    assert [gpu.memory_total_bytes for gpu in found.visible] == [40 * GIB, 10 * GIB, 24 * GIB]
    assert [gpu.uuid for gpu in found.visible] == ["MIG-00bbb", "MIG-01bbb", "GPU-2aaa"]
    assert found.visible[0].name == "NVIDIA H100 80GB HBM3"
    assert found.notes == ("GPU 1 is in MIG mode but has no slice; create one, or turn MIG off",)


def test_shared_memory_is_unknown(tmp_path: Path) -> None:
    """A GPU that shares the host's memory tells none, and that is None rather than zero."""
    (gpu,) = asked(Driver([Card("NVIDIA GB10", 0x2E12, (12, 1), gib=None)]), tmp_path).visible
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes, gpu.capability) == (None, None, (12, 1))


def test_one_lost_gpu_does_not_hide_the_others(tmp_path: Path) -> None:
    """A GPU that fell off the bus is a note, and the rest are facts."""
    lost = Card("NVIDIA L4", 0x27B8, (8, 9), broken=True)
    found = asked(Driver([lost, H100]), tmp_path)
    assert [gpu.index for gpu in found.visible] == [1]
    assert found.notes[0].startswith("GPU 0 does not respond: ")


@pytest.mark.parametrize(
    ("listed", "visible"),
    [
        ("0", [0]),
        ("2,0", [2, 0]),
        ("1,9,0", [1]),
        ("", []),
        ("-1", []),
        ("0,0", [0]),
        ("GPU-1", [1]),
        ("GPU-1aaa, 2", [1, 2]),
        ("GPU-", []),
        ("GPU-9", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices(tmp_path: Path, listed: str, visible: list[int]) -> None:
    """CUDA_VISIBLE_DEVICES means here what it means to CUDA: order kept, ended by the first bad entry."""
    found = asked(Driver([H100, L4, L4]), tmp_path, CUDA_VISIBLE_DEVICES=listed)
    assert [gpu.index for gpu in found.visible] == visible
    assert {each.gpu.index for each in found.hidden} == {0, 1, 2} - set(visible)
    assert all(each.reason == f"hidden by CUDA_VISIBLE_DEVICES={listed}" for each in found.hidden)
    assert bool(found.note) == (not visible)


def test_container_that_was_given_no_gpu(tmp_path: Path) -> None:
    """With NVIDIA_VISIBLE_DEVICES=void and no device, that variable is blamed."""
    note = asked(Driver([]), tmp_path, NVIDIA_VISIBLE_DEVICES="void").note
    assert note == "NVIDIA_VISIBLE_DEVICES=void hides every GPU from this container"
    assert asked(Driver([]), tmp_path).note == "the NVIDIA driver is loaded but finds no usable GPU"


GPU_ON_BUS = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/device": "0x2330\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
    "sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.1/device": "0x22ba\n",
    "sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",
    "sys/bus/pci/devices/0000:02:00.0/vendor": "0x8086\n",
    "sys/bus/pci/devices/0000:02:00.0/device": "0x1234\n",
    "sys/bus/pci/devices/0000:02:00.0/class": "0x030000\n",
}


@pytest.mark.parametrize(
    ("files", "error", "says"),
    [
        ({}, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA GPU was found"),
        (
            GPU_ON_BUS,
            pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
            "(2330:10de) but cannot be used: NVML cannot be initialized",
        ),
        (GPU_ON_BUS, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "install the NVIDIA driver"),
        (
            GPU_ON_BUS | {"proc/driver/nvidia/version": "NVRM version"},
            pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
            "give the container the GPU",
        ),
        (
            GPU_ON_BUS | {"proc/driver/nvidia/version": "NVRM version"},
            pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
            "restart the machine",
        ),
    ],
)
def test_no_driver(tmp_path: Path, files: dict[str, str], error: int, says: str) -> None:
    """No GPU, one without a driver, a container without its GPU, and a broken driver each say so."""
    found = asked(Driver([H100], init_error=error), tree(tmp_path, files))
    assert found.visible == ()
    assert says in found.note


MEMINFO = (
    "MemTotal:       1000000 kB\nMemFree:         100 kB\nMemAvailable:    800000 kB\nHugePages_Total: 0\n"
)


@pytest.mark.parametrize(
    ("files", "limit", "available"),
    [
        ({}, None, 800_000 * 1024),
        (
            {
                "proc/self/cgroup": "0::/pod/box\n",
                "sys/fs/cgroup/pod/box/memory.max": "max\n",
                "sys/fs/cgroup/pod/memory.max": "400000\n",
                "sys/fs/cgroup/pod/memory.current": "100000\n",
            },
            400_000,
            300_000,
        ),
        (
            {
                "proc/self/cgroup": "0::/pod/box\n",
                "sys/fs/cgroup/pod/box/memory.max": "400000\n",
                "sys/fs/cgroup/pod/box/memory.current": "100000\n",
                "sys/fs/cgroup/pod/memory.max": "900000\n",
                "sys/fs/cgroup/pod/memory.current": "700000\n",
            },
            400_000,
            200_000,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,memory:/box\n1:cpuset:/\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "500000\n",
                "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "600000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            500_000,
            0,
        ),
    ],
)
def test_memory_under_cgroups(
    tmp_path: Path, files: dict[str, str], limit: int | None, available: int
) -> None:
    """The tightest limit on the way to the top counts, of version 1 and 2, less what is used already."""
    facts = probe({"NIM_CPU_ONLY": "1"}, root=tree(tmp_path, {"proc/meminfo": MEMINFO} | files))
    assert facts.memory_total_bytes == 1_000_000 * 1024
    assert (facts.memory_limit_bytes, facts.memory_available_bytes) == (limit, available)


def test_cpu_features(tmp_path: Path) -> None:
    """Features are read as x86 and as ARM kernels write them; an unreadable machine has none."""
    x86 = tree(
        tmp_path / "x86", {"proc/cpuinfo": "model name : Some CPU\nflags : avx2 amx_int8\n\nflags : x\n"}
    )
    arm = tree(tmp_path / "arm", {"proc/cpuinfo": "processor : 0\nFeatures : asimd sve\n"})
    assert probe({"NIM_CPU_ONLY": "1"}, root=x86).cpu.features == {"avx2", "amx_int8"}
    assert probe({"NIM_CPU_ONLY": "1"}, root=x86).cpu.name == "Some CPU"
    assert probe({"NIM_CPU_ONLY": "1"}, root=arm).cpu.features == {"asimd", "sve"}
    assert probe({"NIM_CPU_ONLY": "1"}, root=tmp_path / "nothing").cpu.features == frozenset()


def test_plans_in_the_cache(tmp_path: Path) -> None:
    """Plans described in the cache are facts; what describes none is passed over."""
    plan = {
        "profile_id": "a" * 64,
        "library": "tensorrt",
        "version": "10.14.1",
        "os": "linux",
        "cpu_architecture": "x86_64",
        "level": "same-capability",
        "capability": "9.0",
    }
    tree(
        tmp_path / "plans",
        {"a.json": json.dumps(plan), "b.json": "[]", "c.json": "{", "d.json": '{"profile_id": "b"}'},
    )
    facts = probe({"NIM_CPU_ONLY": "1", "EMBEDMILL_CACHE_PATH": str(tmp_path)})
    assert [found.profile_id for found in facts.plans] == ["a" * 64]
    assert facts.plans[0].capability == (9, 0)


def installed(root: Path, name: str, version: str, files: Mapping[str, str] | None = None) -> None:
    """A distribution as pip leaves it: metadata, and the files named."""
    record = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    tree(root, {f"{record}/METADATA": metadata} | dict(files or {}))


def test_libraries_say_which_cuda_they_were_built_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions come from package metadata, CUDA from the file each library keeps it in."""
    installed(tmp_path, "torch", "2.13.0", {"torch/version.py": "cuda: Optional[str] = '13.0'\nhip = None\n"})
    built = {"onnxruntime/capi/build_and_package_info.py": 'package_name = "x"\ncuda_version = "12.8"\n'}
    installed(tmp_path, "onnxruntime-gpu", "1.31.1", built)
    installed(tmp_path, "tensorrt", "10.14.1")
    installed(tmp_path, "tensorrt-cu13", "10.14.1")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {
        runtime.name: (runtime.version, runtime.cuda) for runtime in probe({"NIM_CPU_ONLY": "1"}).runtimes
    }
    assert found["torch"] == ("2.13.0", "13.0")
    assert found["onnxruntime-gpu"] == ("1.31.1", "12.8")
    assert found["tensorrt"] == ("10.14.1", "13")


def test_cpu_build_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU build has no CUDA version."""
    installed(tmp_path, "torch", "2.13.0+cpu", {"torch/version.py": "cuda: Optional[str] = None\n"})
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {runtime.name: runtime.cuda for runtime in probe({"NIM_CPU_ONLY": "1"}).runtimes}
    assert found["torch"] is None
