"""`worker build-engines`: a model's TensorRT plans made ahead of time, for here or for GPUs elsewhere."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from producer.errors import BackendError, ProfileError, SettingsError
from selection import Profile, Standing
from selection.choice import EXIT_NONE_RUNNABLE, EXIT_UNKNOWN
from selection.machine.facts import Capability, Gpu
from selection.manifests.manifest import PRECISIONS
from worker.engines.builder import Progress
from worker.engines.plan_file import CachedPlan
from worker.engines.spec import engine_spec
from worker.engines.store import ensure_plan
from worker.settings import Settings
from worker.startup.loader import ModelBundle, read_bundle
from worker.startup.survey import Survey, survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A profile and what its plan is for: a GPU of this machine, or any of a capability."""

    profile: Profile
    gpu: Gpu | None = None
    capability: Capability | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """What became of one plan: it is kept, or there is a reason why not."""

    profile: Profile
    plan: CachedPlan | None
    failure: str = ""

    @property
    def line(self) -> str:
        """For people."""
        if self.plan is None:
            return f"{self.profile.name}: failed: {self.failure}"
        what, mib = self.plan.spec.plan, self.plan.path.stat().st_size / 2**20
        how = f"built in {self.plan.seconds:.0f} s" if self.plan.seconds else "was there"
        capability = "{}.{}".format(*what.capability)
        return (
            f"{self.profile.name}: {how}, {mib:.0f} MiB for capability {capability} with {what.library} "
            f"{what.version}: {self.plan.path}"
        )


def build_engines(
    settings: Settings, capabilities: Sequence[str], *, on_start: Callable[[Profile], Progress]
) -> Iterator[BuildOutcome]:
    """Build what is missing, one plan after the other, and tell of each.

    `on_start` is told of a profile and gives the callable that hears of its progress. Raises ProfileError if
    there is nothing to build, SettingsError for a capability that is none, ModelError.
    """
    seen = survey(settings.model_copy(update={"build_engines": "missing", "policy": "rules"}))
    targets = _elsewhere(seen, settings, capabilities) if capabilities else _here(seen)
    bundle = read_bundle(seen.manifest, settings)
    for target in targets:
        try:
            plan = _build(target, bundle, seen, settings, on_start(target.profile))
        except BackendError as error:
            yield BuildOutcome(profile=target.profile, plan=None, failure=str(error))
        else:
            yield BuildOutcome(profile=target.profile, plan=plan)


def _here(seen: Survey) -> list[Target]:
    """For the first GPU the best ranked profile of each precision: what a worker here would try."""
    choice = seen.choice
    fits = [
        each
        for each in choice.verdicts
        if each.profile.backend == "tensorrt" and each.standing is Standing.RUNNABLE
    ]
    if not fits:
        reason = _refusal(seen)
        raise ProfileError(
            f"No TensorRT profile of {choice.model.name} can be built for this machine: {reason}. For GPUs "
            "elsewhere say which, such as --capability 8.9.",
            exit_code=choice.exit_code or EXIT_NONE_RUNNABLE,
        )
    # CUDA, once started, keeps to the GPUs that it saw first.
    first = [each for each in fits if each.gpu == fits[0].gpu]
    best = {each.profile.precision: each for each in reversed(first)}
    return [
        Target(profile=best[precision].profile, gpu=best[precision].gpu)
        for precision in PRECISIONS
        if precision in best
    ]


def _refusal(seen: Survey) -> str:
    if seen.choice.error and seen.choice.exit_code == EXIT_UNKNOWN:
        return seen.choice.error
    if not seen.facts.gpus:
        return seen.facts.gpu_note or "there is no GPU"
    reasons = [each.reason for each in seen.choice.verdicts if each.profile.backend == "tensorrt"]
    return next(filter(None, reasons), "its manifest has none")


def _elsewhere(seen: Survey, settings: Settings, capabilities: Sequence[str]) -> list[Target]:
    """The profiles made for exactly these capabilities, in every precision."""
    wanted = [_capability(text) for text in capabilities]
    named = settings.model_profile.strip().lower()
    targets = [
        Target(profile=profile, capability=capability)
        for capability in wanted
        for profile in seen.manifest.profiles
        if profile.backend == "tensorrt" and profile.requires.capabilities == (capability,)
        if not named or named in (profile.id, profile.name.lower())
    ]
    if not targets:
        raise ProfileError(
            f"No TensorRT profile of {seen.manifest.model.name} is for capability "
            f"{', '.join(capabilities)}{' and called ' + named if named else ''}; "
            "`worker list-profiles` shows what there is.",
            exit_code=EXIT_UNKNOWN,
        )
    return targets


def _capability(text: str) -> Capability:
    major, dot, minor = text.strip().partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise SettingsError(f"--capability: a compute capability looks like 8.9, not {text!r:.60}")
    return int(major), int(minor)


def _build(
    target: Target, bundle: ModelBundle, seen: Survey, settings: Settings, progress: Progress
) -> CachedPlan:
    if target.gpu is not None and target.gpu.uuid:
        os.environ["CUDA_VISIBLE_DEVICES"] = target.gpu.uuid
    spec = engine_spec(
        target.profile,
        bundle.model,
        bundle.fingerprint,
        seen.facts,
        gpu=target.gpu,
        capability=target.capability,
        max_batch_tokens=settings.max_batch_tokens,
    )
    return ensure_plan(settings.plans_path, spec, bundle.model, bundle.tokenizer, progress=progress)
