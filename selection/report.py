"""Lists all profiles with their reasons, as text in NIM's layout or as JSON."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from selection.bounds import cosine_bounds
from selection.choice import Choice
from selection.fleet import GpuChoice, fleet_lines, is_mixed
from selection.machine.facts import Facts
from selection.machine.facts_file import facts_to_dict
from selection.machine.system import system_info
from selection.ranking import rank
from selection.verdict import Standing, Verdict

LISTING_FORMAT = 1
_HEADINGS = {
    Standing.RUNNABLE: "Compatible with system and runnable",
    Standing.LOW_MEMORY: "Compatible with system but not runnable due to low free memory",
    Standing.BUILDABLE: "Buildable: compatible with system once the TensorRT plan is built",
    Standing.EXCLUDED: "Compatible with system but excluded by the override",
    Standing.FAILED: "Failed to load or verify on this system",
    Standing.INCOMPATIBLE: "Incompatible with system",
}
_ALWAYS_SHOWN = (Standing.RUNNABLE, Standing.INCOMPATIBLE)


def listing(facts: Facts, choice: Choice, *, each_gpu: Sequence[GpuChoice] = ()) -> str:
    """SYSTEM INFO and MODEL PROFILES, with a reason for each that does not run; ends with a newline.

    `each_gpu` are the choices of a machine's GPUs, told at the end if they differ.
    """
    lines = [*system_info(facts), f"MODEL PROFILES of {choice.model.name}"]
    for standing, heading in _HEADINGS.items():
        verdicts = [verdict for verdict in choice.verdicts if verdict.standing is standing]
        if standing is Standing.INCOMPATIBLE:  # rank means little here: sort by name, as people search
            verdicts.sort(key=lambda verdict: (rank(verdict.profile)[:-1], verdict.profile.name))
        if verdicts:
            lines += [f"- {heading}:", *(line for verdict in verdicts for line in _entry(verdict))]
        elif standing in _ALWAYS_SHOWN:
            lines.append(f"- {heading}: <None>")
    if is_mixed(each_gpu):
        lines += fleet_lines(each_gpu)
    elif choice.selected:
        how = "pinned" if choice.pinned else f"policy {choice.policy}"
        lines.append(f"Selected profile: {choice.selected.id} ({choice.selected.name}), {how}")
    elif choice.error:
        lines.append(f"No profile selected: {choice.error.splitlines()[0]}")
    return "\n".join(lines) + "\n"


def listing_json(facts: Facts, choice: Choice, *, each_gpu: Sequence[GpuChoice] = ()) -> str:
    """The listing as a JSON object; docs/reference/json.md describes its keys, `format` is their version."""
    content = {
        "format": LISTING_FORMAT,
        "model": choice.model.name,
        "policy": choice.policy,
        "selected": choice.selected.id if choice.selected else None,
        "pinned": choice.pinned,
        "candidates": [profile.id for profile in choice.candidates],
        "gpus": [
            {
                "gpu": one.gpu.index,
                "gpu_uuid": one.gpu.uuid,
                "selected": one.choice.selected.id if one.serves and one.choice.selected else None,
            }
            for one in each_gpu
        ],
        "error": choice.error,
        "exit_code": choice.exit_code,
        "profiles": [_as_dict(verdict, choice.model.layers) for verdict in choice.verdicts],
        "system": facts_to_dict(facts),
    }
    return json.dumps(content, indent=2) + "\n"


def _entry(verdict: Verdict) -> Iterator[str]:
    profile = verdict.profile
    yield f"  - {profile.id} ({profile.name})"
    if verdict.reason:
        yield f"      {verdict.reason}"


def _as_dict(verdict: Verdict, layers: int | None) -> dict[str, Any]:
    profile = verdict.profile
    bounds = cosine_bounds(profile, layers=layers)
    return {
        "id": profile.id,
        "name": profile.name,
        "backend": profile.backend,
        "device": profile.device,
        "precision": profile.precision,
        "generic": profile.generic,
        "min_cosine": bounds.worst,
        "min_mean_cosine": bounds.mean if bounds.mean > -1 else None,
        "tags": dict(profile.tags),
        "why": profile.why,
        "standing": verdict.standing.value,
        "cause": verdict.cause.value,
        "reason": verdict.reason,
        "gpu": verdict.gpu.index if verdict.gpu else None,
        "gpu_uuid": verdict.gpu.uuid if verdict.gpu else None,
        "needed_bytes": verdict.needed_bytes,
        "fitting_tokens": verdict.fitting_tokens,
    }
