"""Judges whether a profile fits a machine: on its best device, with the first obstacle."""

from dataclasses import replace

from selection.gpu_match import unfit_gpu, wanted_gpu
from selection.machine.facts import Facts, Gpu
from selection.machine.system import gib
from selection.manifests.manifest import ModelCard, Profile
from selection.memory import available_bytes, budget_tokens, fitting_tokens, needed_bytes
from selection.plans import missing_plan
from selection.runtimes import missing_library
from selection.verdict import Cause, Obstacle, Standing, Verdict


def judge(profile: Profile, model: ModelCard, facts: Facts, *, max_batch_tokens: int | None) -> Verdict:
    """The verdict on a profile for its best device; of equally good GPUs the first of `device_order`."""
    if profile.device == "cpu":
        return _judge_on(profile, model, facts, gpu=None, max_batch_tokens=max_batch_tokens)
    if not facts.gpus:
        return Verdict(
            profile=profile,
            standing=Standing.INCOMPATIBLE,
            cause=Cause.NO_GPU,
            reason=f"needs a GPU{wanted_gpu(profile)}",
        )
    verdicts = [
        _judge_on(profile, model, facts, gpu=gpu, max_batch_tokens=max_batch_tokens)
        for gpu in device_order(facts.gpus)
    ]
    standings = list(Standing)
    best = min(verdicts, key=lambda verdict: standings.index(verdict.standing))
    if best.standing is Standing.RUNNABLE or len({verdict.reason for verdict in verdicts}) == 1:
        return best
    reasons = (f"GPU {each.gpu.index} ({each.gpu.name}): {each.reason}" for each in verdicts if each.gpu)
    return replace(best, reason="; ".join(reasons))


def device_order(gpus: tuple[Gpu, ...]) -> list[Gpu]:
    """GPUs in the order of preference: more memory first, then as the process sees them."""
    return sorted(gpus, key=lambda gpu: -(gpu.memory_total_bytes or 0))


def _judge_on(
    profile: Profile, model: ModelCard, facts: Facts, *, gpu: Gpu | None, max_batch_tokens: int | None
) -> Verdict:
    verdict = Verdict(profile=profile, standing=Standing.RUNNABLE, gpu=gpu)
    unfit = (
        _unfit_host(profile, facts)
        or (unfit_gpu(profile, facts, gpu) if gpu else None)
        or missing_library(profile, facts, gpu=gpu)
    )
    if unfit:
        return _obstructed(verdict, Standing.INCOMPATIBLE, unfit)
    tokens = budget_tokens(profile, model, limit=max_batch_tokens)
    verdict = replace(verdict, needed_bytes=needed_bytes(profile, model, tokens=tokens))
    available = available_bytes(facts, gpu=gpu)
    if verdict.needed_bytes is not None and available is not None and verdict.needed_bytes > available:
        return _low_memory(verdict, model, available, tokens=tokens)
    unbuilt = missing_plan(profile, facts, gpu=gpu)
    return _obstructed(verdict, Standing.BUILDABLE, unbuilt) if unbuilt else verdict


def _unfit_host(profile: Profile, facts: Facts) -> Obstacle | None:
    requires = profile.requires
    if requires.operating_systems and facts.os not in requires.operating_systems:
        wanted = " or ".join(requires.operating_systems)
        return Obstacle(Cause.OPERATING_SYSTEM, f"is for {wanted}, this machine runs {facts.os}")
    if requires.cpu_architectures and facts.cpu.architecture not in requires.cpu_architectures:
        wanted = " or ".join(requires.cpu_architectures)
        return Obstacle(
            Cause.CPU_ARCHITECTURE, f"is for {wanted} hosts, this one is {facts.cpu.architecture}"
        )
    lacking = [feature for feature in requires.cpu_features if feature not in facts.cpu.features]
    if lacking:
        return Obstacle(Cause.CPU_FEATURE, f"needs {', '.join(lacking)}, which this CPU lacks")
    return None


def _low_memory(verdict: Verdict, model: ModelCard, available: int, *, tokens: int) -> Verdict:
    fitting = fitting_tokens(verdict.profile, model, available_bytes=available)
    cure = "no token budget fits" if fitting is None else f"fits with EMBEDMILL_MAX_BATCH_TOKENS={fitting}"
    need = f"needs {gib(verdict.needed_bytes or 0)} for batches of {tokens} tokens"
    obstacle = Obstacle(Cause.MEMORY, f"{need}, {gib(available)} is free; {cure}")
    return replace(_obstructed(verdict, Standing.LOW_MEMORY, obstacle), fitting_tokens=fitting)


def _obstructed(verdict: Verdict, standing: Standing, obstacle: Obstacle) -> Verdict:
    return replace(verdict, standing=standing, cause=obstacle.cause, reason=obstacle.reason)
