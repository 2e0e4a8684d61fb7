"""From settings to a profile that is loaded and proven: probe, choose, load, verify."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from producer.errors import BackendError, ModelError, ProfileError, SettingsError
from selection import (
    Choice,
    Facts,
    FactsError,
    Manifest,
    ManifestError,
    Profile,
    choose,
    load_facts,
    manifest_at,
    manifest_for,
    probe,
    with_failure,
)
from selection.facts import Gpu
from worker.backends import load_backend
from worker.backends.contract import Backend
from worker.model import Model, read_model
from worker.settings import Settings
from worker.source import locate
from worker.tokenizer import Tokenizer
from worker.verify import Verified, read_golden, verify

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What this machine is, what the model offers, and what would be chosen."""

    facts: Facts
    manifest: Manifest
    choice: Choice


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Booted:
    """A profile that serves: everything loaded and verified."""

    survey: Survey
    profile: Profile
    model: Model
    tokenizer: Tokenizer
    backend: Backend
    verified: Verified


def survey(settings: Settings, *, facts_file: Path | None = None) -> Survey:
    """Look at this machine, or at the one that a facts file describes, and choose; nothing is loaded.

    Raises SettingsError for a manifest or a facts file that cannot be read.
    """
    environ = dict(os.environ) | ({"NIM_CPU_ONLY": "1"} if settings.cpu_only else {})
    try:
        facts = probe(environ) if facts_file is None else load_facts(facts_file)
        manifest = _manifest(settings)
    except (ManifestError, FactsError) as error:
        raise SettingsError(str(error)) from error
    choice = choose(
        facts,
        manifest,
        policy=settings.policy,
        override=settings.model_profile,
        tags=settings.tags_selector,
        allow_unsafe=settings.manifest_allow_unsafe,
        max_batch_tokens=settings.max_batch_tokens,
    )
    return Survey(facts=facts, manifest=manifest, choice=choice)


def boot(settings: Settings) -> Booted:
    """Load the first candidate that verifies, saying in the log what was found, taken and dropped.

    Raises ProfileError with the process's exit code if none serves or the pinned one does not; ModelError.
    """
    seen = survey(settings)
    choice = seen.choice
    for line in choice.log_lines():
        log.info(line)
    if choice.selected is None:
        raise ProfileError(choice.error or "", exit_code=choice.exit_code or 1)
    model = read_model(_directory(settings, seen.manifest), sha256=seen.manifest.model.weights_sha256)
    if not model.head.include_prompt and any(seen.manifest.model.prompts.values()):
        raise ModelError(
            "the model leaves prompts out of the pooling, but its manifest has some; remove them"
        )
    tokenizer = Tokenizer(model.transformer, max_tokens=model.max_text_tokens, lower_case=model.do_lower_case)
    while choice.selected is not None:
        profile = choice.selected
        try:
            _show_only(choice.verdict(profile.id).gpu)
            backend, verified = _load(profile, model, tokenizer, seen.manifest, settings)
        except (BackendError, ModelError) as error:
            log.error("profile_failed name=%s reason=%s", profile.name, error)
            choice = with_failure(choice, profile.id, str(error))
            continue
        return Booted(
            survey=replace(seen, choice=choice),
            profile=profile,
            model=model,
            tokenizer=tokenizer,
            backend=backend,
            verified=verified,
        )
    raise ProfileError(choice.error or "", exit_code=choice.exit_code or 1)


def _load(
    profile: Profile, model: Model, tokenizer: Tokenizer, manifest: Manifest, settings: Settings
) -> tuple[Backend, Verified]:
    backend = load_backend(
        profile.backend,
        model,
        device=profile.device,
        precision=profile.precision,
        max_batch_tokens=settings.max_batch_tokens or profile.max_batch_tokens,
        num_threads=settings.num_threads,
    )
    golden = manifest.model.golden
    try:
        verified = verify(
            backend,
            tokenizer,
            read_golden(golden) if golden is not None else None,
            min_cosine=profile.min_cosine,
        )
    except BaseException:
        backend.close()
        raise
    return backend, verified


def _show_only(gpu: Gpu | None) -> None:
    """Let the process see the chosen GPU alone: the driver and CUDA count GPUs in different orders."""
    if gpu is not None and gpu.uuid:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu.uuid


def _manifest(settings: Settings) -> Manifest:
    if settings.manifest_path is not None:
        return manifest_at(settings.manifest_path, model=settings.model)
    return manifest_for(settings.model)


def _directory(settings: Settings, manifest: Manifest) -> Path:
    sources = manifest.model.sources
    if settings.model_dir is not None:
        sources = (f"dir:{settings.model_dir}",)
    return locate(sources, cache=settings.cache_path / "hub", offline=settings.offline)
