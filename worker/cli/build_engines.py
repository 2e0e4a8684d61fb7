"""`worker build-engines`: builds a model's TensorRT plans ahead of time, for this machine or other GPUs."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from producer.errors import BackendError, ProfileError, SettingsError
from producer.terminal import format_bytes
from selection import Profile, Standing
from selection.choice import EXIT_NONE_RUNNABLE, EXIT_UNKNOWN
from selection.machine.facts import Capability, Gpu
from selection.manifests.manifest import PRECISIONS
from worker.cli.entry import settings_from
from worker.cli.options import model_options
from worker.cli.progress import bar_for_each
from worker.engines.builder import Progress
from worker.engines.plan_file import CachedPlan
from worker.engines.spec import engine_spec
from worker.engines.store import ensure_plan
from worker.settings import Settings
from worker.startup.loader import ModelBundle, read_bundle
from worker.startup.survey import Survey, survey


@click.command("build-engines")
@model_options
@click.option(
    "--capability",
    "capabilities",
    multiple=True,
    help="Build for GPUs of this compute capability, such as 8.9, instead of this machine's; repeatable.",
)
def build_engines_command(capabilities: tuple[str, ...], **options: Any) -> None:
    """Build a model's TensorRT plans ahead of time.

    Without --capability, builds those that a worker on this machine would use. Plans are kept in the cache.
    """
    settings = settings_from(options)
    with bar_for_each() as on_start:
        outcomes = list(build_engines(settings, capabilities, on_start=on_start))
    for outcome in outcomes:
        click.echo(outcome.line)
    sys.exit(any(outcome.plan is None for outcome in outcomes))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTarget:
    """A profile, and the GPU of this machine or the compute capability to build its plan for."""

    profile: Profile
    gpu: Gpu | None = None
    capability: Capability | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """The result for one profile: a plan in the cache, or the reason why it failed."""

    profile: Profile
    plan: CachedPlan | None
    failure: str = ""

    @property
    def line(self) -> str:
        """The outcome as one line of text."""
        if self.plan is None:
            return f"{self.profile.name}: failed: {self.failure}"
        spec, size = self.plan.spec.plan, format_bytes(self.plan.path.stat().st_size)
        how = f"built in {self.plan.seconds:.0f} s" if self.plan.seconds else "already built"
        capability = "{}.{}".format(*spec.capability)
        return (
            f"{self.profile.name}: {how}, {size} for capability {capability} with {spec.library} "
            f"{spec.version}: {self.plan.path}"
        )


def build_engines(
    settings: Settings, capabilities: Sequence[str], *, on_start: Callable[[Profile], Progress]
) -> Iterator[BuildOutcome]:
    """Build the missing plans one after the other, and yield the outcome of each.

    `on_start` is called with each profile and returns the callback for its progress. Raises ProfileError
    if there is nothing to build, SettingsError for a malformed capability, ModelError.
    """
    seen = survey(settings.model_copy(update={"build_engines": "missing", "policy": "rules"}))
    targets = _targets_for(seen, settings, capabilities) if capabilities else _local_targets(seen)
    bundle = read_bundle(seen.manifest, settings)
    for target in targets:
        try:
            plan = _build(target, bundle, seen, settings, on_start(target.profile))
        except BackendError as error:
            yield BuildOutcome(profile=target.profile, plan=None, failure=str(error))
        else:
            yield BuildOutcome(profile=target.profile, plan=plan)


def _local_targets(seen: Survey) -> list[BuildTarget]:
    """The best-ranked profile of each precision for the first GPU: what a worker here would try."""
    choice = seen.choice
    fits = [
        each
        for each in choice.verdicts
        if each.profile.backend == "tensorrt" and each.standing is Standing.RUNNABLE
    ]
    if not fits:
        reason = _refusal(seen)
        raise ProfileError(
            f"no TensorRT profile of {choice.model.name} can be built for this machine: {reason}; to build "
            "for GPUs elsewhere, name their compute capability, such as --capability 8.9",
            exit_code=choice.exit_code or EXIT_NONE_RUNNABLE,
        )
    # Only the first GPU: CUDA, once started, ignores changes of the visible devices.
    first = [each for each in fits if each.gpu == fits[0].gpu]
    best = {each.profile.precision: each for each in reversed(first)}
    return [
        BuildTarget(profile=best[precision].profile, gpu=best[precision].gpu)
        for precision in PRECISIONS
        if precision in best
    ]


def _refusal(seen: Survey) -> str:
    if seen.choice.error and seen.choice.exit_code == EXIT_UNKNOWN:
        return seen.choice.error
    if not seen.facts.gpus:
        return seen.facts.gpu_note or "it has no GPU"
    reasons = [each.reason for each in seen.choice.verdicts if each.profile.backend == "tensorrt"]
    return next(filter(None, reasons), "its manifest has no such profile")


def _targets_for(seen: Survey, settings: Settings, capabilities: Sequence[str]) -> list[BuildTarget]:
    """The profiles made for exactly these capabilities, in every precision."""
    wanted = [_capability(text) for text in capabilities]
    named = settings.model_profile.strip().lower()
    targets = [
        BuildTarget(profile=profile, capability=capability)
        for capability in wanted
        for profile in seen.manifest.profiles
        if profile.backend == "tensorrt" and profile.requires.capabilities == (capability,)
        if not named or named in (profile.id, profile.name.lower())
    ]
    if not targets:
        raise ProfileError(
            f"no TensorRT profile of {seen.manifest.model.name} is for capability "
            f"{', '.join(capabilities)}{' and named ' + named if named else ''}; "
            "`worker list-profiles` lists all profiles",
            exit_code=EXIT_UNKNOWN,
        )
    return targets


def _capability(text: str) -> Capability:
    major, dot, minor = text.strip().partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise SettingsError(
            f"--capability: {text!r:.60} is not a compute capability; write, for example, 8.9"
        )
    return int(major), int(minor)


def _build(
    target: BuildTarget, bundle: ModelBundle, seen: Survey, settings: Settings, progress: Progress
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
