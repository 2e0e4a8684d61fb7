"""The result of `choose`, and what it becomes when a profile fails on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from selection.bounds import at_least_as_strict
from selection.manifests.manifest import ModelCard, Profile
from selection.verdict import Cause, Standing, Verdict

EXIT_UNKNOWN = 3
EXIT_NONE_RUNNABLE = 4
_DUPLICATE = "is loaded exactly like"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The profiles to try, in order, and a verdict for every profile of the manifest, best-ranked first.

    `selected` is the first candidate. A pinned choice has exactly one candidate, which is never replaced.
    Without a candidate `error` says why, in NIM's words, and `exit_code` is that of the process: 3 for an
    override that cannot be followed, 4 if no profile is runnable.
    """

    model: ModelCard
    policy: str
    candidates: tuple[Profile, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    pinned: bool = False
    error: str | None = None
    exit_code: int | None = None

    @property
    def selected(self) -> Profile | None:
        """The profile to serve with; None if there is an error."""
        return self.candidates[0] if self.candidates else None

    @property
    def low_memory_sentence(self) -> str:
        """NIM's sentence on profiles that lack only free GPU memory; empty if there are none."""
        num_low = sum(each.standing is Standing.LOW_MEMORY and bool(each.gpu) for each in self.verdicts)
        if not num_low:
            return ""
        return (
            f"Detected additional {num_low} compatible profile(s) that are currently not runnable due to low "
            "free GPU memory."
        )

    def verdict(self, profile_id: str) -> Verdict:
        """The verdict on one profile. Raises KeyError if it is not part of this choice."""
        for each in self.verdicts:
            if each.profile.id == profile_id:
                return each
        raise KeyError(profile_id)

    def log_lines(self) -> tuple[str, ...]:
        """The boot log: MODEL PROFILES, and the selected one with its metadata; `error` is not among them."""
        runnable = [each.profile for each in self.verdicts if each.standing is Standing.RUNNABLE]
        lines = ["MODEL PROFILES", f"- Compatible with system and runnable:{'' if runnable else ' <None>'}"]
        lines += [f"  - {profile.name}  ({_tags(profile)})" for profile in runnable]
        if self.selected is None:
            return tuple(lines)
        lines += filter(None, [self.low_memory_sentence])
        lines.append(f"Selected profile: {self.selected.id} ({self.selected.name})")
        lines += [f"Profile metadata: {key}: {value}" for key, value in self.selected.tags.items()]
        return tuple(lines)


def with_failure(choice: Choice, profile_id: str, reason: str) -> Choice:
    """The choice after a profile did not load or verify here: the next candidate is selected.

    Duplicates, which would be loaded in exactly the same way, fail with it. With no candidate left, error and
    exit code 4 are set. Raises KeyError if the profile is not part of this choice.
    """
    failed = choice.verdict(profile_id)
    duplicates = {
        each.profile.id for each in choice.verdicts if _is_duplicate(each, failed, layers=choice.model.layers)
    }
    name = failed.profile.name
    reasons = {profile_id: reason} | dict.fromkeys(duplicates, f"{_DUPLICATE} {name}, which failed: {reason}")
    verdicts = tuple(
        replace(each, standing=Standing.FAILED, cause=Cause.FAILED, reason=reasons[each.profile.id])
        if each.profile.id in reasons
        else each
        for each in choice.verdicts
    )
    left = tuple(each for each in choice.candidates if each.id not in reasons)
    if left:
        return replace(choice, candidates=left, verdicts=verdicts)
    if choice.pinned:
        error = f"The pinned profile {failed.profile.id} ({name}) did not load or verify here: {reason}"
    else:
        error = f"No runnable profile loads and verifies here: {_why(verdicts)}"
    return replace(choice, candidates=(), verdicts=verdicts, error=error, exit_code=EXIT_NONE_RUNNABLE)


def _why(verdicts: Sequence[Verdict]) -> str:
    """Each reason once, after the names of the profiles that failed for it, in the order of their ranks."""
    names: dict[str, list[str]] = {}
    for each in verdicts:
        if each.cause is Cause.FAILED and not each.reason.startswith(_DUPLICATE):
            names.setdefault(each.reason, []).append(each.profile.name)
    return "; ".join(f"{', '.join(some)}: {reason}" for reason, some in names.items())


def _is_duplicate(verdict: Verdict, failed: Verdict, *, layers: int | None) -> bool:
    """True if both load alike on one device, within bounds as strict; TensorRT plans are never shared."""
    one, other = verdict.profile, failed.profile
    return (
        one.id != other.id
        and verdict.standing is Standing.RUNNABLE
        and verdict.gpu == failed.gpu
        and one.backend != "tensorrt"
        and _loaded_as(one) == _loaded_as(other)
        and at_least_as_strict(one, other, layers=layers)
    )


def _loaded_as(profile: Profile) -> tuple[str, str, str, int | None]:
    return profile.backend, profile.device, profile.precision, profile.max_batch_tokens


def _tags(profile: Profile) -> str:
    return ",".join(f"{key}={value}" for key, value in profile.tags.items())
