"""Judges which TensorRT plan can be loaded here: by its description, since a plan cannot be inspected."""

from selection.machine.facts import Facts, Gpu, Plan, Runtime, format_capability
from selection.manifests.manifest import Profile
from selection.runtimes import library_for
from selection.verdict import Cause, Obstacle


def missing_plan(profile: Profile, facts: Facts, *, gpu: Gpu | None) -> Obstacle | None:
    """Why a TensorRT profile has no plan for this device, and what to do; None if it needs none."""
    if profile.backend != "tensorrt" or gpu is None:
        return None
    plans = [plan for plan in facts.plans if plan.profile_id == profile.id]
    refusals = [_mismatch(plan, profile, facts, gpu=gpu) for plan in plans]
    if "" in refusals:
        return None
    library = library_for(profile, facts, gpu=gpu)
    build = f"`worker build-engines` builds one here with {_named(library)} in minutes"
    return Obstacle(Cause.PLAN, f"{refusals[0]}; {build}" if refusals else f"has no plan yet; {build}")


def _mismatch(plan: Plan, profile: Profile, facts: Facts, *, gpu: Gpu) -> str:
    library = library_for(profile, facts, gpu=gpu)
    here = (facts.os, facts.cpu.architecture)
    if (plan.os, plan.cpu_architecture) != here:
        return f"its plan was built on {plan.os} {plan.cpu_architecture}, this machine is {' '.join(here)}"
    if library is None or (plan.library, plan.version) != (library.name, library.version):
        return f"its plan was built with {plan.library} {plan.version}, installed is {_named(library)}"
    if plan.capability != gpu.capability:
        return f"its plan is for compute capability {format_capability(plan.capability)}"
    if plan.level == "none" and plan.gpu_name != gpu.name:
        return f"its plan is for {plan.gpu_name} only"
    return ""


def _named(library: Runtime | None) -> str:
    return f"{library.name} {library.version}" if library else "no TensorRT"
