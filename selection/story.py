"""Explains a choice: what was chosen, and why nothing that ranks better was."""

from collections.abc import Iterator, Sequence

from selection.choice import Choice
from selection.machine.facts import Facts
from selection.manifests.manifest import ModelCard
from selection.ranking import rank
from selection.verdict import Cause, Verdict

#: Causes whose profiles are reported together, not one by one.
_TOGETHER = {
    Cause.NO_GPU: "need a GPU",
    Cause.CAPABILITY: "are for another compute capability",
    Cause.GPU_MODEL: "are for another GPU model",
}
_MAX_NAMED = 4


def explain(facts: Facts, choice: Choice) -> str:
    """The explanation of the choice as text; ends with a newline."""
    selected = choice.selected
    if selected is None:
        return "\n".join(((choice.error or "").partition("\n")[0], *obstacles(choice.verdicts, facts))) + "\n"
    verdict = choice.verdict(selected.id)
    where = f"GPU {verdict.gpu.index} ({verdict.gpu.name})" if verdict.gpu else "the CPU"
    how = "because it is pinned" if choice.pinned else f"by the policy '{choice.policy}'"
    lines = [f"{selected.name} serves {_model(choice.model)} on {where}, {how}."]
    if verdict.reason:
        lines.append(f"It {verdict.reason}.")
    better = [each for each in choice.verdicts if rank(each.profile) < rank(selected)]
    if better:
        lines += ["Ranked better, but not chosen:", *obstacles(better, facts)]
    if len(choice.candidates) > 1:
        following = ", ".join(each.name for each in choice.candidates[1:])
        lines.append(f"If it fails to load or verify, the next are: {following}.")
    return "\n".join(lines) + "\n"


def _model(model: ModelCard) -> str:
    if model.num_parameters is None or model.layers is None or model.hidden is None:
        return model.name
    millions = f"{model.num_parameters / 1e6:.1f} M parameters"
    return f"{model.name} ({millions}, {model.layers} layers of {model.hidden})"


def obstacles(verdicts: Sequence[Verdict], facts: Facts) -> Iterator[str]:
    """A line for each reason, after the names of the profiles it keeps from running."""
    groups: dict[str, list[str]] = {}
    for each in sorted(verdicts, key=lambda verdict: (rank(verdict.profile)[:-1], verdict.profile.name)):
        groups.setdefault(_TOGETHER.get(each.cause, each.reason), []).append(each.profile.name)
    for reason, names in groups.items():
        if reason in _TOGETHER.values() and len(names) > _MAX_NAMED:
            note = f": {facts.gpu_note}" if reason == _TOGETHER[Cause.NO_GPU] and facts.gpu_note else ""
            yield f"- {len(names)} profiles {reason}{note} ({', '.join(names[:_MAX_NAMED])} ...)"
        else:
            yield f"- {', '.join(names)}: {reason or 'runnable'}"
