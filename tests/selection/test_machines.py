"""One row a machine: what it must choose, and the one thing that keeps every other profile from running."""

from dataclasses import dataclass

import pytest
from support.paths import MACHINES

from selection import Facts, Manifest, Standing, choose, load_facts, manifest_for, manifests
from selection.manifests.manifest import Profile
from selection.verdict import Cause

EVERYTHING = frozenset({"tensorrt", "onnx", "torch"})
ONNX = frozenset({"onnx"})
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """`sku` and `capability` are of the chosen GPU, `libraries` those that work on it.

    Then what a large and a small model choose with plans built at boot, and without; an exit code for none.
    """

    machine: str
    sku: str | None
    capability: tuple[int, int] | None
    large: str | int
    small: str | int
    large_unbuilt: str | int
    small_unbuilt: str | int
    libraries: frozenset[str] = EVERYTHING
    no_room: bool = False
    cpu_runs: bool = True


def hopper(machine: str, sku: str | None) -> Row:
    name = sku or "sm90"
    return Row(
        machine,
        sku,
        (9, 0),
        f"{name}-fp8-tensorrt",
        f"{name}-fp16-tensorrt",
        "sm90-fp8-torch",
        "sm90-fp16-torch",
    )


def other(machine: str, sku: str | None, capability: tuple[int, int]) -> Row:
    name = sku or f"sm{capability[0]}{capability[1]}"
    large = f"{name}-fp8-tensorrt" if capability >= (8, 9) else f"{name}-fp16-tensorrt"
    return Row(machine, sku, capability, large, f"{name}-fp16-tensorrt", "cuda-fp16-torch", "cuda-fp16-torch")


def same(
    machine: str,
    sku: str | None,
    capability: tuple[int, int] | None,
    chosen: str | int,
    libraries: frozenset[str] = ONNX,
    *,
    no_room: bool = False,
    cpu_runs: bool = True,
    small: str | None = None,
) -> Row:
    small_chosen = small or chosen
    return Row(
        machine,
        sku,
        capability,
        chosen,
        small_chosen,
        chosen,
        small_chosen,
        libraries=libraries,
        no_room=no_room,
        cpu_runs=cpu_runs,
    )


def on_cpu(
    machine: str,
    sku: str | None = None,
    capability: tuple[int, int] | None = None,
    libraries: frozenset[str] = ONNX,
    *,
    no_room: bool = False,
) -> Row:
    """On a CPU with VNNI: the small model has an int8 profile for it, the large one has none."""
    return same(machine, sku, capability, "cpu-fp32-onnx", libraries, no_room=no_room, small="cpu-int8-onnx")


ROWS = [
    hopper("h100-sxm", "h100-hbm3-80gb"),
    hopper("h100-pcie", "h100-pcie"),
    hopper("h100-nvl", "h100-nvl"),
    hopper("h200", "h200"),
    hopper("gh200", "gh200-480gb"),
    hopper("h20", None),
    hopper("h100-sxm-two", "h100-hbm3-80gb"),
    hopper("h100-sxm-two-first-full", "h100-hbm3-80gb"),
    hopper("h100-sxm-mig-1g", None),
    hopper("h100-sxm-mig-3g", None),
    Row(
        "h100-sxm-without-tensorrt",
        "h100-hbm3-80gb",
        (9, 0),
        "sm90-fp8-torch",
        "sm90-fp16-torch",
        "sm90-fp8-torch",
        "sm90-fp16-torch",
        libraries=frozenset({"onnx", "torch"}),
    ),
    Row(
        "h100-sxm-tensorrt-rtx",
        "h100-hbm3-80gb",
        (9, 0),
        "sm90-fp8-torch",
        "sm90-fp16-torch",
        "sm90-fp8-torch",
        "sm90-fp16-torch",
        libraries=frozenset({"onnx", "torch"}),
    ),
    same("h100-sxm-onnx-only", "h100-hbm3-80gb", (9, 0), "cuda-fp16-onnx"),
    on_cpu("h100-sxm-full", "h100-hbm3-80gb", (9, 0), EVERYTHING, no_room=True),
    on_cpu("h100-sxm-old-driver", "h100-hbm3-80gb", (9, 0), NOTHING),
    on_cpu("h100-sxm-cpu-builds", "h100-hbm3-80gb", (9, 0), NOTHING),
    on_cpu("h100-sxm-hidden"),
    other("a100-sxm4-40gb", "a100-sxm4-40gb", (8, 0)),
    other("a100-sxm4-80gb", "a100-sxm4-80gb", (8, 0)),
    other("a100-pcie-40gb", "a100-pcie-40gb", (8, 0)),
    other("a100-pcie-80gb", "a100-pcie-80gb", (8, 0)),
    other("a100-sxm4-40gb-mig-1g", None, (8, 0)),
    same(
        "a100-sxm4-80gb-torch-only",
        "a100-sxm4-80gb",
        (8, 0),
        "cuda-fp16-torch",
        frozenset({"torch"}),
        cpu_runs=False,
    ),
    other("a30", None, (8, 0)),
    other("a10", "a10", (8, 6)),
    other("a10g", "a10g", (8, 6)),
    other("rtx-a6000", None, (8, 6)),
    other("l4", "l4", (8, 9)),
    other("l40", "l40", (8, 9)),
    other("l40s", "l40s", (8, 9)),
    other("rtx-4090", "rtx-4090", (8, 9)),
    other("rtx-4060-desktop", None, (8, 9)),
    other("rtx-6000-ada", "rtx-6000-ada", (8, 9)),
    Row(
        "rtx-4090-tensorrt-rtx",
        "rtx-4090",
        (8, 9),
        "rtx-4090-fp8-tensorrt",
        "rtx-4090-fp16-tensorrt",
        "cuda-fp16-onnx",
        "cuda-fp16-onnx",
        libraries=frozenset({"onnx", "tensorrt"}),
    ),
    other("b200", "b200", (10, 0)),
    other("gb200", None, (10, 0)),
    other("rtx-5090", "rtx-5090", (12, 0)),
    other("rtx-pro-6000", None, (12, 0)),
    other("gb10", None, (12, 1)),
    Row(
        "t4",
        None,
        (7, 5),
        "sm75-fp16-tensorrt",
        "sm75-fp16-tensorrt",
        "cuda-fp16-onnx",
        "cuda-fp16-onnx",
    ),
    same("v100", None, (7, 0), "cuda-fp16-onnx", frozenset({"onnx", "torch"})),
    on_cpu("v100-cuda-13-libraries", None, (7, 0), NOTHING),
    same("gtx-1080", None, (6, 1), "cuda-fp32-onnx"),
    same("capability-13", None, (13, 0), "cuda-fp16-torch", EVERYTHING),
    on_cpu("cpu-x86"),
    same("cpu-x86-avx2", None, None, "cpu-fp32-onnx"),
    same("cpu-aarch64", None, None, "cpu-fp32-onnx"),
    on_cpu("cpu-only-asked"),
    on_cpu("gpu-without-driver"),
    on_cpu("gpu-broken-driver"),
    same("cpu-tight-cgroup", None, None, 4, no_room=True),
    same("cpu-no-libraries", None, None, 4, NOTHING, cpu_runs=False),
    same("cpu-torch-only", None, None, "cpu-fp32-torch", NOTHING, cpu_runs=False),
]
IDS = [row.machine for row in ROWS]
MIXED = "a100-and-l4"


def facts_of(row: Row) -> Facts:
    return load_facts(MACHINES / f"{row.machine}.json")


def chosen(facts: Facts, manifest: Manifest, *, build: bool) -> str | int | None:
    choice = choose(facts, manifest, policy="rules", build_engines=build)
    return choice.selected.name if choice.selected else choice.exit_code


def expected_cause(profile: Profile, row: Row) -> Cause:
    """The first thing in the way, said once more in the plainest words."""
    if profile.device == "cpu":
        has_torch = facts_of(row).runtime("torch") is not None
        in_the_way = [
            (not (has_torch if profile.backend == "torch" else row.cpu_runs), Cause.LIBRARY),
            (row.no_room and row.capability is None, Cause.MEMORY),
        ]
        return next((cause for is_so, cause in in_the_way if is_so), Cause.NONE)
    requires, capability = profile.requires, row.capability or (0, 0)
    floor = {"fp8": (8, 9), "bf16": (8, 0)}.get(profile.precision, (0, 0))
    in_the_way = [
        (row.capability is None, Cause.NO_GPU),
        (capability < max(requires.min_capability or (0, 0), floor), Cause.CAPABILITY),
        (bool(requires.capabilities) and capability not in requires.capabilities, Cause.CAPABILITY),
        (bool(requires.gpus) and row.sku not in requires.gpus, Cause.GPU_MODEL),
        (profile.backend not in row.libraries, Cause.LIBRARY),
        (row.no_room, Cause.MEMORY),
        (profile.backend == "tensorrt", Cause.PLAN),
    ]
    return next((cause for is_so, cause in in_the_way if is_so), Cause.NONE)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_machine_chooses(row: Row) -> None:
    """Every machine takes the profile of its row, for a small and a large model, with and without plans."""
    facts, small, large = facts_of(row), manifest_for("all-MiniLM-L6-v2"), manifest_for("e5-large-v2")
    assert chosen(facts, large, build=True) == row.large
    assert chosen(facts, small, build=True) == row.small
    assert chosen(facts, large, build=False) == row.large_unbuilt
    assert chosen(facts, small, build=False) == row.small_unbuilt


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_every_profile_is_judged(row: Row) -> None:
    """Every profile has exactly the cause that the row's GPU and libraries give it, and a sentence."""
    manifest = manifest_for("e5-large-v2")
    choice = choose(facts_of(row), manifest, policy="rules")
    assert len(choice.verdicts) == len(manifest.profiles)
    found = {verdict.profile.name: verdict.cause for verdict in choice.verdicts}
    assert found == {profile.name: expected_cause(profile, row) for profile in manifest.profiles}
    for verdict in choice.verdicts:
        assert bool(verdict.reason) == (verdict.standing is not Standing.RUNNABLE)


def test_two_different_gpus() -> None:
    """The GPU with more memory comes first, whatever its index; if only the other fits, it is chosen."""
    facts, manifest = load_facts(MACHINES / f"{MIXED}.json"), manifest_for("e5-large-v2")
    choice = choose(facts, manifest, policy="rules", build_engines=True)
    names = [profile.name for profile in choice.candidates]
    assert names[0] == "a100-sxm4-40gb-fp16-tensorrt"
    assert names.index("cuda-fp32-torch") < names.index("l4-fp8-tensorrt") < names.index("cpu-fp32-onnx")
    by_name = {verdict.profile.name: verdict for verdict in choice.verdicts}
    assert by_name["l4-fp8-tensorrt"].gpu == facts.gpus[0]
    assert by_name["cuda-fp16-onnx"].gpu == facts.gpus[1]
    reason = by_name["h200-fp8-tensorrt"].reason
    assert "GPU 1 (NVIDIA A100-SXM4-40GB): fp8 needs" in reason
    assert "GPU 0 (NVIDIA L4): is for the GPU model h200" in reason


def test_second_gpu_is_taken_where_the_first_is_full() -> None:
    """A full GPU does not hide a free one beside it."""
    facts = load_facts(MACHINES / "h100-sxm-two-first-full.json")
    choice = choose(facts, manifest_for("minilm"), policy="rules")
    assert choice.selected is not None
    assert choice.verdict(choice.selected.id).gpu == facts.gpus[1]


def test_table_and_files_are_one() -> None:
    """Every machine file has its row, and there are at least forty."""
    assert sorted([*IDS, MIXED]) == sorted(path.stem for path in MACHINES.glob("*.json"))
    assert len(IDS) >= 40


def test_every_shipped_profile_has_a_use() -> None:
    """Every profile is chosen on some machine of the table, by some model, or says why it exists."""
    taken = {
        chosen(facts_of(row), manifest_for(name), build=build)
        for row in ROWS
        for name in ("minilm", "e5-large-v2", "some/other-model")
        for build in (True, False)
    }
    shipped = {profile.name for manifest in manifests() for profile in manifest.profiles if not profile.why}
    assert shipped - taken == set()
