"""Resolves a requested profile: an id, a name, `id (name)` as pasted from the listing, or tags."""

import difflib
import re
from collections.abc import Sequence

from selection.manifests.manifest import Profile

_AUTOMATIC = ("", "auto", "default")
#: NIM's names for tags that have different names here.
_TAG_ALIASES = {"backend": "type", "model_type": "type", "gpu_device": "gpu"}


class OverrideError(ValueError):
    """An override or tag selector that matches no profile."""


def pinned_profile(override: str, profiles: Sequence[Profile], *, source: str) -> Profile | None:
    """The requested profile, or None if the choice is automatic (empty, `auto`, `default`).

    Raises OverrideError in NIM's words, with the nearest names; `source` is the variable or option at fault.
    """
    wanted = override.strip()
    if wanted.lower() in _AUTOMATIC:
        return None
    pasted = re.fullmatch(r"(?:-\s+)?(\S+)\s+\((.+)\)", wanted)
    asked = {wanted.lower()} | ({pasted[1].lower()} if pasted else set())
    found = [profile for profile in profiles if {profile.id, profile.name.lower()} & asked]
    if found:
        return found[0]
    raise OverrideError(
        f"{source} is set to {wanted}, but no matching profile_id or profile description is found in "
        f"manifest.{_nearest(pasted[2] if pasted else wanted, profiles)}"
    )


def tag_filter(tags: str) -> dict[str, str]:
    """`precision=fp16,backend=onnx` as a mapping. Raises OverrideError for any other form."""
    wanted: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in tags.split(","))):
        key, equals, value = (each.strip() for each in part.partition("="))
        if not (key and equals and value):
            raise OverrideError(
                f"the tag selector {tags!r:.200} must have the form precision=fp16,backend=onnx"
            )
        wanted[_TAG_ALIASES.get(key.lower(), key.lower())] = value.lower()
    return wanted


def has_tags(profile: Profile, wanted: dict[str, str]) -> bool:
    """True if the profile has every requested tag."""
    own = {_TAG_ALIASES.get(key.lower(), key.lower()): value.lower() for key, value in profile.tags.items()}
    return all(own.get(key) == value for key, value in wanted.items())


def _nearest(wanted: str, profiles: Sequence[Profile]) -> str:
    by_name = {profile.name.lower(): profile.name for profile in profiles}
    names = [by_name[each] for each in difflib.get_close_matches(wanted.lower(), by_name, n=3, cutoff=0.5)]
    if names:
        return f" Nearest: {', '.join(names)}."
    return " `worker list-profiles` lists them."
