"""Properties of the choice, the override, tags, the measured policy, and what follows a failure."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import MACHINES

from selection import (
    Choice,
    Facts,
    Manifest,
    Measurement,
    Profile,
    Standing,
    choose,
    load_facts,
    manifest_for,
    with_failure,
)
from selection.machine.facts import Gpu, Runtime
from selection.manifests.manifest import Requirements
from selection.ranking import rank

FACTS = {path.stem: load_facts(path) for path in sorted(MACHINES.glob("*.json"))}
MODELS = {
    name: manifest_for(name) for name in ("minilm", "e5-large-v2", "llama-nemotron-embed-1b-v2", "bge-m3")
}
machines = st.sampled_from(sorted(FACTS))
models = st.sampled_from(sorted(MODELS))


def auto(facts: Facts, manifest: Manifest, **options: object) -> Choice:
    return choose(facts, manifest, **({"policy": "rules"} | options))  # type: ignore[arg-type]


def profile_named(manifest: Manifest, name: str) -> Profile:
    return next(profile for profile in manifest.profiles if profile.name == name)


@given(machines, models, st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=60, deadline=None)
def test_order_of_the_file_never_matters(
    machine: str, model: str, shuffler: random.Random, build: bool
) -> None:
    """A manifest's profiles in any order give the same choice, verdict by verdict."""
    manifest = MODELS[model]
    profiles = list(manifest.profiles)
    shuffler.shuffle(profiles)
    shuffled = replace(manifest, profiles=tuple(profiles))
    once = auto(FACTS[machine], manifest, build_engines=build)
    assert auto(FACTS[machine], shuffled, build_engines=build) == once
    assert auto(FACTS[machine], manifest, build_engines=build) == once


@given(machines, models, st.data())
@settings(max_examples=60, deadline=None)
def test_an_incompatible_profile_changes_nothing(machine: str, model: str, data: st.DataObject) -> None:
    """Candidates stay the same when profiles that cannot run here come or go."""
    manifest, facts = MODELS[model], FACTS[machine]
    before = auto(facts, manifest)
    idle = [one.profile for one in before.verdicts if one.standing is Standing.INCOMPATIBLE]
    gone = data.draw(st.sets(st.sampled_from([profile.id for profile in idle]))) if idle else set()
    kept = tuple(profile for profile in manifest.profiles if profile.id not in gone)
    assert auto(facts, replace(manifest, profiles=kept)).candidates == before.candidates


@given(machines, models, st.booleans())
@settings(max_examples=60, deadline=None)
def test_candidates_are_runnable_and_in_order(machine: str, model: str, build: bool) -> None:
    """Exactly what runs is a candidate, and on one device candidates follow a strict order."""
    choice = auto(FACTS[machine], MODELS[model], build_engines=build)
    runnable = [each.profile for each in choice.verdicts if each.standing is Standing.RUNNABLE]
    assert list(choice.candidates) == runnable
    for device in {each.gpu.uuid if each.gpu else "" for each in choice.verdicts}:
        ranks = [
            rank(each.profile)
            for each in choice.verdicts
            if each.standing is Standing.RUNNABLE and (each.gpu.uuid if each.gpu else "") == device
        ]
        assert ranks == sorted(ranks)
        assert len(set(ranks)) == len(ranks)
    assert (choice.exit_code is None) == bool(choice.candidates)


@given(machines, models, st.integers(0, 64), st.integers(0, 64), st.integers(256, 65_536))
@settings(max_examples=80, deadline=None)
def test_more_memory_never_hurts(machine: str, model: str, free_gb: int, more_gb: int, tokens: int) -> None:
    """A profile runnable with some free memory is runnable with more."""

    def with_free(num_gb: int) -> Facts:
        facts = FACTS[machine]
        gpus = tuple(
            replace(gpu, memory_total_bytes=200 * 2**30, memory_free_bytes=num_gb * 2**30)
            for gpu in facts.gpus
        )
        return replace(facts, gpus=gpus, memory_available_bytes=num_gb * 2**30)

    less = auto(with_free(free_gb), MODELS[model], max_batch_tokens=tokens)
    more = auto(with_free(free_gb + more_gb), MODELS[model], max_batch_tokens=tokens)
    assert {each.id for each in less.candidates} <= {each.id for each in more.candidates}


capabilities = st.tuples(st.integers(6, 13), st.integers(0, 9))


@given(
    gpu=capabilities,
    exact=st.sets(capabilities, max_size=3),
    floor=st.none() | capabilities,
    precision=st.sampled_from(["fp8", "fp16", "bf16", "fp32"]),
    architectures=st.sets(st.sampled_from(["x86_64", "aarch64"])),
    num_gpus=st.integers(1, 3),
)
@settings(max_examples=200, deadline=None)
def test_nothing_incompatible_is_ever_selected(
    *,
    gpu: tuple[int, int],
    exact: set[tuple[int, int]],
    floor: tuple[int, int] | None,
    precision: str,
    architectures: set[str],
    num_gpus: int,
) -> None:
    """A profile is selected if and only if every requirement, read by itself, is met."""
    requires = Requirements(
        capabilities=tuple(sorted(exact)),
        min_capability=floor,
        cpu_architectures=tuple(sorted(architectures)),
        num_gpus=num_gpus,
    )
    facts = replace(FACTS["h100-sxm"], gpus=(Gpu(index=0, name="NVIDIA Some", capability=gpu),))
    profile = replace(
        profile_named(MODELS["minilm"], "cuda-fp16-torch"), requires=requires, precision=precision
    )
    choice = auto(facts, replace(MODELS["minilm"], profiles=(profile,)))
    fits = (
        (not exact or gpu in exact)
        and (floor is None or gpu >= floor)
        and (precision != "fp8" or gpu >= (8, 9))
        and (precision != "bf16" or gpu >= (8, 0))
        and (not architectures or "x86_64" in architectures)
        and num_gpus == 1
        and gpu >= (7, 5)
    )
    assert (choice.selected == profile) == fits


@pytest.mark.parametrize("override", ["", "  ", "auto", "AUTO", "default"])
def test_automatic_words(override: str) -> None:
    """Empty, `auto` and `default` mean the automatic choice."""
    choice = auto(FACTS["h100-sxm"], MODELS["minilm"], override=override)
    assert choice == auto(FACTS["h100-sxm"], MODELS["minilm"])
    assert not choice.pinned


@pytest.mark.parametrize("form", ["{id}", "{name}", "{id} ({name})", "  - {id} ({name})", "{upper}"])
def test_a_profile_is_pinned_in_every_form(form: str) -> None:
    """An id, a name in any case, and a line pasted from the listing pin the same profile alone."""
    profile = profile_named(MODELS["minilm"], "cuda-fp32-onnx")
    override = form.format(id=profile.id, name=profile.name, upper=profile.name.upper())
    choice = auto(FACTS["h100-sxm"], MODELS["minilm"], override=override)
    assert choice.candidates == (profile,)
    assert choice.pinned
    assert choice.error is None
    best = auto(FACTS["h100-sxm"], MODELS["minilm"]).candidates[0]
    assert choice.verdict(best.id).standing is Standing.EXCLUDED


def test_unknown_override() -> None:
    """An unknown profile is exit code 3, NIM's sentence with what was set, and the nearest names."""
    choice = auto(FACTS["cpu-x86"], MODELS["minilm"], override="cpu-fp16-onnx")
    assert choice.exit_code == 3
    assert choice.error is not None
    assert choice.error.startswith(
        "Environment variable NIM_MODEL_PROFILE is set to cpu-fp16-onnx, but no matching profile_id or "
        "profile description is found in manifest."
    )
    assert "cpu-fp32-onnx" in choice.error
    assert choice.selected is None


def test_incompatible_override() -> None:
    """A profile that does not fit is refused with its reason, and runs where unsafe is allowed."""
    pinned = {"override": "h100-hbm3-80gb-fp16-tensorrt"}
    choice = auto(FACTS["h100-nvl"], MODELS["minilm"], **pinned)
    assert choice.exit_code == 3
    assert "is for the GPU model h100-hbm3-80gb, this is NVIDIA H100 NVL" in str(choice.error)
    assert "NIM_MANIFEST_ALLOW_UNSAFE=1" in str(choice.error)
    allowed = auto(FACTS["h100-nvl"], MODELS["minilm"], allow_unsafe=True, **pinned)
    assert allowed.selected is not None
    assert (allowed.selected.name, allowed.pinned) == ("h100-hbm3-80gb-fp16-tensorrt", True)


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ("precision=fp16,backend=onnx", "cuda-fp16-onnx"),
        (" type = torch , precision = BF16 ", "sm90-bf16-torch"),
        ("device=cpu", "cpu-int8-onnx"),
        ("", "sm90-fp16-torch"),
    ],
)
def test_tags_narrow_the_choice(tags: str, name: str) -> None:
    """Only profiles with all the tags are candidates, the best of them first; none is pinned."""
    choice = auto(FACTS["h100-sxm"], MODELS["minilm"], tags=tags)
    assert choice.selected is not None
    assert choice.selected.name == name
    assert not choice.pinned


@pytest.mark.parametrize("tags", ["precision=fp4", "precision", "=fp16", "precision=fp16 backend=onnx"])
def test_tags_without_a_match(tags: str) -> None:
    """Tags that no profile has, or in another form, are exit code 3."""
    choice = auto(FACTS["h100-sxm"], MODELS["minilm"], tags=tags)
    assert choice.exit_code == 3
    assert choice.selected is None


def test_override_that_contradicts_the_tags() -> None:
    """A pinned profile without the tags asked for is refused, not silently preferred."""
    choice = auto(FACTS["h100-sxm"], MODELS["minilm"], override="cuda-fp32-onnx", tags="precision=fp16")
    assert choice.exit_code == 3


def test_nothing_runnable() -> None:
    """Exit code 4 with NIM's sentence and the machine."""
    choice = auto(FACTS["cpu-no-libraries"], MODELS["minilm"])
    assert choice.exit_code == 4
    assert "Could not find a profile that is currently runnable with the detected hardware." in str(
        choice.error
    )
    assert "SYSTEM INFO" in str(choice.error)


def test_low_memory_names_a_budget_that_fits() -> None:
    """A profile short of memory says how many tokens fit: that many run, 256 more do not."""
    facts, manifest = FACTS["rtx-4060-desktop"], MODELS["bge-m3"]
    profile = profile_named(manifest, "cuda-fp16-torch")
    roomy = replace(facts, gpus=(replace(facts.gpus[0], memory_free_bytes=7 * 2**29),))
    verdict = auto(roomy, manifest, max_batch_tokens=65_536).verdict(profile.id)
    assert verdict.standing is Standing.LOW_MEMORY
    assert verdict.fitting_tokens is not None
    assert f"EMBEDMILL_MAX_BATCH_TOKENS={verdict.fitting_tokens}" in verdict.reason
    fitting = auto(roomy, manifest, max_batch_tokens=verdict.fitting_tokens).verdict(profile.id)
    assert fitting.standing is Standing.RUNNABLE
    over = auto(roomy, manifest, max_batch_tokens=verdict.fitting_tokens + 256).verdict(profile.id)
    assert over.standing is Standing.LOW_MEMORY


def measured(profile: Profile, tokens_per_s: float, *, worst_cosine: float = 1.0) -> dict[str, Measurement]:
    return {
        profile.id: Measurement(
            profile_id=profile.id,
            tokens_per_s=tokens_per_s,
            texts_per_s=tokens_per_s / 100,
            memory_bytes=1,
            worst_cosine=worst_cosine,
            mean_cosine=worst_cosine,
            min_cosine=0.98,
            min_mean_cosine=0.98,
            load_s=1.0,
        )
    }


def test_measured_policy_takes_the_fastest() -> None:
    """The fastest that was exact comes first, the unmeasured follow by the rules, the inexact failed."""
    manifest = MODELS["e5-large-v2"]
    fp8, fp16 = profile_named(manifest, "sm90-fp8-torch"), profile_named(manifest, "sm90-fp16-torch")
    onnx = profile_named(manifest, "cuda-fp16-onnx")
    table = measured(onnx, 3e5) | measured(fp16, 7e5) | measured(fp8, 9e5, worst_cosine=0.9)
    choice = auto(FACTS["h100-sxm"], manifest, policy="measured", measurements=table)
    assert choice.candidates[:2] == (fp16, onnx)
    assert fp8 not in choice.candidates
    assert choice.verdict(fp8.id).standing is Standing.FAILED
    assert choice.verdict(fp8.id).reason.startswith(
        "was measured here: worst cosine is 0.900000, the minimum is 0.98 ("
    )
    rest = [profile for profile in auto(FACTS["h100-sxm"], manifest).candidates if profile.id not in table]
    assert list(choice.candidates[2:]) == rest
    assert "700,000 tokens/s" in choice.verdict(fp16.id).reason


def test_measured_policy_without_measurements_follows_the_rules() -> None:
    """Before anything was measured the order is that of the rules."""
    by_rules = auto(FACTS["l4"], MODELS["minilm"])
    assert auto(FACTS["l4"], MODELS["minilm"], policy="measured").candidates == by_rules.candidates


def test_unknown_policy() -> None:
    """A policy that does not exist is an error that names those that do."""
    with pytest.raises(ValueError, match="rules, measured"):
        auto(FACTS["l4"], MODELS["minilm"], policy="fastest")


def test_failure_moves_to_the_next() -> None:
    """A failed profile is reported as failed and the next one selected; the last one ends in exit code 4."""
    choice = auto(FACTS["h100-sxm-onnx-only"], MODELS["minilm"])
    names = [profile.name for profile in choice.candidates]
    assert names == ["cuda-fp16-onnx", "cuda-fp32-onnx", "cpu-int8-onnx", "cpu-fp32-onnx"]
    for name in names[1:]:
        assert choice.selected is not None
        failed = choice.selected.id
        choice = with_failure(choice, failed, "gave NaN")
        assert choice.selected is not None
        assert choice.selected.name == name
        assert choice.verdict(failed).standing is Standing.FAILED
        assert choice.verdict(failed).reason == "gave NaN"
    choice = with_failure(choice, choice.candidates[0].id, "no file")
    assert (choice.selected, choice.exit_code) == (None, 4)
    with pytest.raises(KeyError):
        with_failure(choice, "0" * 64, "not of this choice")


def test_what_is_loaded_alike_fails_alike() -> None:
    """A profile that differs in its name and its hardware only is not tried again; a laxer one is."""
    facts, manifest = FACTS["h100-sxm-without-tensorrt"], MODELS["minilm"]
    choice = auto(facts, manifest, tags="backend=torch")
    named, alike = (profile_named(manifest, name) for name in ("sm90-fp16-torch", "cuda-fp16-torch"))
    assert all(each in choice.candidates for each in (named, alike))
    after = with_failure(choice, named.id, "gave NaN")
    assert (named in after.candidates, alike in after.candidates) == (False, False)
    assert after.verdict(alike.id).reason == "is loaded exactly like sm90-fp16-torch, which failed: gave NaN"
    assert after.candidates[0].name == "sm90-bf16-torch"
    lax = replace(manifest, profiles=(named, replace(alike, min_cosine=0.9)))
    assert with_failure(auto(facts, lax), named.id, "gave NaN").selected == lax.profiles[1]


def test_fake_runs_everywhere_and_for_its_own_model_only() -> None:
    """The fake profile is chosen on every machine for fake/echo, and no other model has it."""
    fake = manifest_for("fake/echo")
    for facts in FACTS.values():
        selected = auto(facts, fake).selected
        assert selected is not None
        assert (selected.backend, selected.generic) == ("fake", True)
    assert all(profile.backend != "fake" for profile in manifest_for("any/model").profiles)


@pytest.mark.parametrize(
    ("runtimes", "reason"),
    [
        (("torch",), "transformers is not installed (pip install 'embedmill[transformers]')"),
        (("transformers",), "torch is not installed (pip install 'embedmill[transformers]')"),
        (("torch", "transformers"), ""),
    ],
    ids=["torch alone", "transformers alone", "both"],
)
def test_transformers_needs_torch_beside_it(runtimes: tuple[str, ...], reason: str) -> None:
    """A padded profile says which of its two libraries is missing."""
    installed = tuple(Runtime(name=name, version="1.0") for name in runtimes)
    facts = replace(FACTS["cpu-no-libraries"], runtimes=installed)
    verdicts = auto(facts, manifest_for("org/unknown")).verdicts
    (found,) = [each for each in verdicts if each.profile.name == "cpu-fp32-transformers"]
    assert (found.standing is Standing.RUNNABLE, found.reason) == (not reason, reason)


@pytest.mark.parametrize("machine", ["h100-sxm", "cpu-x86"])
def test_transformers_comes_behind_ours_on_its_device(machine: str) -> None:
    """With all libraries installed, no padded profile goes before our own on the same device."""
    facts = FACTS[machine]
    more = tuple(Runtime(name=name, version="5.0") for name in ("torch", "transformers"))
    facts = replace(facts, runtimes=(*facts.runtimes, *more))
    candidates = auto(facts, manifest_for("org/unknown")).candidates
    for device in {profile.device for profile in candidates}:
        padded = [each.backend == "transformers" for each in candidates if each.device == device]
        assert padded == sorted(padded)
        assert padded[-1]
        assert not padded[0]
