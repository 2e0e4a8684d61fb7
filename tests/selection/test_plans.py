"""Which TensorRT plan may be loaded where: all that it was built for must be the same here."""

from dataclasses import replace

import pytest
from support.paths import MACHINES

from selection import Standing, Verdict, choose, load_facts, manifest_for
from selection.machine.facts import Plan

MANIFEST = manifest_for("minilm")
SM90 = next(profile for profile in MANIFEST.profiles if profile.name == "sm90-fp16-tensorrt")
PLAN = Plan(
    profile_id=SM90.id,
    library="tensorrt",
    version="10.14.1",
    os="linux",
    cpu_architecture="x86_64",
    level="same-capability",
    capability=(9, 0),
    gpu_name="NVIDIA H100 80GB HBM3",
)


def verdict(machine: str, *plans: Plan) -> Verdict:
    facts = replace(load_facts(MACHINES / f"{machine}.json"), plans=plans)
    return choose(facts, MANIFEST, policy="rules").verdict(SM90.id)


@pytest.mark.parametrize("machine", ["h100-sxm", "h100-pcie", "h100-nvl", "h200", "h20", "h100-sxm-mig-1g"])
def test_same_capability_plan_runs_on_every_hopper(machine: str) -> None:
    """A plan of level same-capability built on an H100 SXM runs on every x86 machine of capability 9.0."""
    assert verdict(machine, PLAN).standing is Standing.RUNNABLE
    assert verdict(machine).standing is Standing.BUILDABLE


def test_plan_makes_tensorrt_the_choice() -> None:
    """With its plan in the cache the TensorRT profile goes before PyTorch and ONNX."""
    facts = replace(load_facts(MACHINES / "h100-sxm.json"), plans=(PLAN,))
    selected = choose(facts, MANIFEST, policy="rules").selected
    assert selected == SM90


@pytest.mark.parametrize(
    ("machine", "plan", "says"),
    [
        ("gh200", PLAN, "built on linux x86_64, this machine is linux aarch64"),
        ("h100-sxm", replace(PLAN, os="windows"), "built on windows x86_64"),
        (
            "h100-sxm",
            replace(PLAN, version="10.13.0"),
            "with tensorrt 10.13.0, installed is tensorrt 10.14.1",
        ),
        ("h100-sxm", replace(PLAN, library="tensorrt_rtx"), "with tensorrt_rtx 10.14.1"),
        ("h100-sxm", replace(PLAN, capability=(8, 9)), "for compute capability 8.9"),
        ("h100-nvl", replace(PLAN, level="none"), "for NVIDIA H100 80GB HBM3 only"),
    ],
)
def test_plan_that_does_not_fit(machine: str, plan: Plan, says: str) -> None:
    """A plan that differs in anything that matters is refused with that difference, and can be built anew."""
    found = verdict(machine, plan)
    assert found.standing is Standing.BUILDABLE
    assert says in found.reason
    assert "`worker build-engines`" in found.reason


def test_one_fitting_plan_is_enough() -> None:
    """Plans of other machines beside the right one do no harm."""
    assert verdict("gh200", PLAN, replace(PLAN, cpu_architecture="aarch64")).standing is Standing.RUNNABLE


def test_pinned_unbuilt_plan() -> None:
    """Pinning a profile whose plan is not built is refused, and allowed where plans are built at boot."""
    facts = load_facts(MACHINES / "h100-sxm.json")
    assert choose(facts, MANIFEST, policy="rules", override=SM90.name).exit_code == 3
    built = choose(facts, MANIFEST, policy="rules", override=SM90.name, build_engines=True)
    assert built.selected == SM90
