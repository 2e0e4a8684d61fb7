"""Surveys the machine and the model's profiles, and chooses among them, before anything is loaded."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from producer.errors import SettingsError
from selection import (
    Choice,
    Facts,
    FactsError,
    GpuChoice,
    Manifest,
    ManifestError,
    Measurement,
    MeasurementKey,
    Standing,
    choose,
    load_facts,
    load_measurements,
    manifest_at,
    manifest_for,
    measurement_key,
    probe,
)
from selection.manifests.catalog import GENERIC
from worker.settings import Settings
from worker.startup.custom_manifest import custom_manifest
from worker.startup.length_mix import length_mix
from worker.startup.named_model import hub_folder, refuse_absent, refuse_unknown

#: Probes the machine, given its environment variables.
Probe = Callable[[Mapping[str, str]], Facts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The machine, the manifest and the choice; `measurements` by profile id, empty under policy `rules`."""

    facts: Facts
    manifest: Manifest
    choice: Choice
    measurements: dict[str, Measurement]


def machine_facts(settings: Settings, *, probe: Probe = probe) -> Facts:
    """Probe this machine, without its GPUs if the settings say so."""
    return probe({**os.environ, "NIM_CPU_ONLY": "1"} if settings.cpu_only else os.environ)


def survey(settings: Settings, *, facts: Facts | None = None, facts_file: Path | None = None) -> Survey:
    """Choose among the model's profiles for the given machine; this machine is probed if none is given.

    Raises SettingsError for a manifest, a facts file or a file of lengths that cannot be read, ModelError for
    a custom model that is not understood, and for a name behind which there can be no model.
    """
    try:
        if facts is None:
            facts = machine_facts(settings) if facts_file is None else load_facts(facts_file)
        manifest = _manifest(settings)
    except (ManifestError, FactsError) as error:
        raise SettingsError(str(error)) from error
    return _surveyed(settings, facts, manifest)


def not_here_yet(manifest: Manifest, settings: Settings) -> str:
    """A sentence on a model that has to be downloaded first, empty if its files are here.

    Nobody is asked: whether the hub has it shows when it is downloaded.
    """
    if settings.custom_model is not None or settings.model_dir is not None:
        return ""
    folders = [hub_folder(each, settings.cache_path / "hub") for each in manifest.model.pinned_sources]
    if not all(folders) or any(each is not None and each.is_dir() for each in folders):
        return ""
    name = manifest.model.name
    if settings.offline:
        return (
            f"{name} is not in the cache, and downloads are turned off (EMBEDMILL_OFFLINE): `run` will fail "
            "until `worker download-to-cache` has run with network access."
        )
    return f"{name} is not in the cache: the first start downloads it, and fails if the hub does not have it."


def choices_by_gpu(seen: Survey, settings: Settings) -> tuple[GpuChoice, ...]:
    """What the worker process of each GPU, which sees no other, chooses."""
    alone = ((gpu, replace(seen.facts, gpus=(gpu,))) for gpu in seen.facts.gpus)
    return tuple(GpuChoice(gpu, _surveyed(settings, facts, seen.manifest).choice) for gpu, facts in alone)


def _surveyed(settings: Settings, facts: Facts, manifest: Manifest) -> Survey:
    choice = _choose(settings, facts, manifest, policy="rules")
    if settings.policy == "rules":
        return Survey(facts=facts, manifest=manifest, choice=choice, measurements={})
    keys = measurement_keys(choice, facts, settings)
    found = load_measurements(measurements_path(settings), keys.values())
    choice = _choose(settings, facts, manifest, policy=settings.policy, measurements=found)
    return Survey(facts=facts, manifest=manifest, choice=choice, measurements=found)


def measurement_keys(choice: Choice, facts: Facts, settings: Settings) -> dict[str, MeasurementKey]:
    """The key of each runnable profile's measurement, by profile id.

    Raises SettingsError if the file of lengths cannot be read.
    """
    mix = length_mix(settings)
    return {
        each.profile.id: measurement_key(each.profile, choice.model, facts, gpu=each.gpu, length_mix=mix.name)
        for each in choice.verdicts
        if each.standing is Standing.RUNNABLE
    }


def measurements_path(settings: Settings) -> Path:
    """The cache's folder of measurements."""
    return settings.cache_path / "measurements"


def _choose(
    settings: Settings,
    facts: Facts,
    manifest: Manifest,
    *,
    policy: str,
    measurements: dict[str, Measurement] | None = None,
) -> Choice:
    return choose(
        facts,
        manifest,
        policy=policy,
        override=settings.model_profile,
        tags=settings.tags_selector,
        allow_unsafe=settings.manifest_allow_unsafe,
        measurements=measurements,
        max_batch_tokens=settings.max_batch_tokens,
        build_engines=settings.build_engines == "missing",
        override_source=settings.profile_source,
    )


def _manifest(settings: Settings) -> Manifest:
    if settings.custom_model is not None:
        return custom_manifest(settings.custom_model, model=settings.model, output=settings.custom_output)
    if settings.manifest_path is not None:
        return manifest_at(settings.manifest_path, model=settings.model)
    found = manifest_for(settings.model)
    if settings.model_dir is not None:
        refuse_absent(f"dir:{settings.model_dir}")
    elif found.path.stem == GENERIC:
        refuse_unknown(found.model)
    return found
