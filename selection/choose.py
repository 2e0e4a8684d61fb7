"""Chooses the profile that serves on a machine, with the reasons against the others. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from selection.choice import EXIT_NONE_RUNNABLE, EXIT_UNKNOWN, Choice
from selection.compatibility import device_order, judge
from selection.machine.facts import Facts
from selection.machine.system import system_info
from selection.manifests.manifest import Manifest
from selection.measurements import Measurement
from selection.override import OverrideError, has_tags, pinned_profile, tag_filter
from selection.ranking import device_place, rank
from selection.verdict import Cause, Standing, Verdict

POLICIES = ("rules", "measured")
NONE_RUNNABLE = (
    "Could not find a profile that is currently runnable with the detected hardware. "
    "Please check the system information below and make sure you have enough free GPUs."
)


def choose(
    facts: Facts,
    manifest: Manifest,
    *,
    policy: str = "rules",
    override: str = "",
    tags: str = "",
    allow_unsafe: bool = False,
    measurements: Mapping[str, Measurement] | None = None,
    max_batch_tokens: int | None = None,
    build_engines: bool = False,
    override_source: str = "Environment variable NIM_MODEL_PROFILE",
) -> Choice:
    """The profiles to try on this machine, in order, with a verdict for each.

    `override` pins a profile, `tags` narrows the choice; `allow_unsafe` lets a pinned profile run even if it
    does not fit. `measurements`, by profile id, serve the policy `measured`. `max_batch_tokens` is the
    worker's token budget, for the memory estimate; with `build_engines` a plan yet to be built counts as
    runnable. Raises ValueError for an unknown policy; the choice's `error` and `exit_code` say what else is
    wrong.
    """
    if policy not in POLICIES:
        raise ValueError(f"the selection policy must be one of {', '.join(POLICIES)}, not {policy!r:.60}")
    verdicts = _judged(facts, manifest, max_batch_tokens=max_batch_tokens, build_engines=build_engines)
    choice = Choice(model=manifest.model, policy=policy, verdicts=verdicts)
    try:
        pinned = pinned_profile(override, manifest.profiles, source=override_source)
        wanted = tag_filter(tags)
        if pinned is not None:
            return _pin(choice, pinned.id, wanted, allow_unsafe=allow_unsafe)
        choice = _narrow(choice, wanted, tags)
    except OverrideError as error:
        return replace(choice, error=str(error), exit_code=EXIT_UNKNOWN)
    if policy == "measured":
        choice = _by_measurement(choice, measurements or {})
    return _select(choice, facts)


def _judged(
    facts: Facts, manifest: Manifest, *, max_batch_tokens: int | None, build_engines: bool
) -> tuple[Verdict, ...]:
    """A verdict for every profile, ordered by device and then by rank."""
    order = device_order(facts.gpus)
    verdicts = [
        judge(profile, manifest.model, facts, max_batch_tokens=max_batch_tokens)
        for profile in manifest.profiles
    ]
    if build_engines:
        verdicts = [_as_runnable(verdict) for verdict in verdicts]
    return tuple(sorted(verdicts, key=lambda each: (device_place(each.gpu, order), rank(each.profile))))


def _pin(choice: Choice, profile_id: str, wanted: dict[str, str], *, allow_unsafe: bool) -> Choice:
    verdict = choice.verdict(profile_id)
    profile = verdict.profile
    if not has_tags(profile, wanted):
        raise OverrideError(
            f"the profile {profile.name} does not have the requested tags; omit the profile or the tags"
        )
    if verdict.standing is not Standing.RUNNABLE and not allow_unsafe:
        raise OverrideError(
            f"The profile {profile.id} ({profile.name}) was requested, but it {verdict.reason}. "
            "Set NIM_MANIFEST_ALLOW_UNSAFE=1 to run it anyway."
        )
    return replace(
        choice,
        candidates=(profile,),
        pinned=True,
        verdicts=_exclude(choice.verdicts, keep={profile_id}, reason=f"{profile.name} is pinned"),
    )


def _narrow(choice: Choice, wanted: dict[str, str], tags: str) -> Choice:
    keep = {each.profile.id for each in choice.verdicts if has_tags(each.profile, wanted)}
    if not keep:
        raise OverrideError(f"Could not match a profile in manifest: none has the tags {tags.strip()}")
    reason = f"does not have the tags {tags.strip()}"
    return replace(choice, verdicts=_exclude(choice.verdicts, keep=keep, reason=reason))


def _by_measurement(choice: Choice, measurements: Mapping[str, Measurement]) -> Choice:
    """Fastest first, then unmeasured ones by rank; a profile that measured below its bounds has failed."""
    verdicts = tuple(_measured(each, measurements.get(each.profile.id)) for each in choice.verdicts)

    def slowness(verdict: Verdict) -> float:
        found = measurements.get(verdict.profile.id)
        return -found.tokens_per_s if found and verdict.standing is Standing.RUNNABLE else 0.0

    return replace(choice, verdicts=tuple(sorted(verdicts, key=slowness)))


def _measured(verdict: Verdict, found: Measurement | None) -> Verdict:
    if verdict.standing is not Standing.RUNNABLE:
        return verdict
    if found is None:
        return replace(verdict, reason="has not been measured yet; run `worker measure`")
    if found.shortfall is not None:
        reason = f"was measured here: {found.shortfall}"
        return replace(verdict, standing=Standing.FAILED, cause=Cause.FAILED, reason=reason)
    return replace(verdict, reason=f"was measured here: {found.tokens_per_s:,.0f} tokens/s")


def _select(choice: Choice, facts: Facts) -> Choice:
    candidates = tuple(each.profile for each in choice.verdicts if each.standing is Standing.RUNNABLE)
    if candidates:
        return replace(choice, candidates=candidates)
    error = "\n".join((*filter(None, [choice.low_memory_sentence]), NONE_RUNNABLE, *system_info(facts)))
    return replace(choice, error=error, exit_code=EXIT_NONE_RUNNABLE)


def _exclude(verdicts: Sequence[Verdict], *, keep: set[str], reason: str) -> tuple[Verdict, ...]:
    def excluded() -> Iterable[Verdict]:
        for each in verdicts:
            out = each.profile.id not in keep and each.standing is Standing.RUNNABLE
            yield replace(each, standing=Standing.EXCLUDED, cause=Cause.ASKED, reason=reason) if out else each

    return tuple(excluded())


def _as_runnable(verdict: Verdict) -> Verdict:
    if verdict.standing is not Standing.BUILDABLE:
        return verdict
    return replace(
        verdict, standing=Standing.RUNNABLE, cause=Cause.NONE, reason="builds its plan before it serves"
    )
