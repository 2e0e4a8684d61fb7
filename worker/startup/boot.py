"""Boots a worker: probes the machine once, then chooses, loads and verifies a profile."""

import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace

import structlog

from producer.backoff import Backoff
from producer.errors import BackendError, HubUnreachable, ModelError, ProfileError
from selection import Manifest, Profile, probe, with_failure
from worker.contract import Backend
from worker.models.model import Model
from worker.prompts import Prompts
from worker.settings import Settings
from worker.startup.golden import golden_tokens
from worker.startup.loader import ModelBundle, load_profile, read_bundle
from worker.startup.measurement import measure_profiles
from worker.startup.speed import measured_tokens_per_s
from worker.startup.structure import ensure_structure
from worker.startup.survey import Probe, Survey, machine_facts, measurements_path, not_here_yet, survey
from worker.startup.verification import Verified
from worker.startup.verification_record import ensure_verified
from worker.storage.lock import FileLock, locked
from worker.storage.model_lock import ModelLock
from worker.tokenization.tokenizer import Tokenizer

_HUB_BACKOFF = Backoff(first_s=1.0, max_s=60.0)

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Booted:
    """A profile ready to serve: loaded, verified and measured, with its model's part of the cache locked.

    `fingerprint` identifies the model's files; `tokens_per_s` counts padding.
    """

    survey: Survey
    profile: Profile
    model: Model
    fingerprint: str
    tokenizer: Tokenizer
    prompts: Prompts
    backend: Backend
    verified: Verified
    tokens_per_s: float
    model_lock: ModelLock


def boot(settings: Settings, *, probe: Probe = probe, waits_for_hub: bool = False) -> Booted:
    """Load the first candidate profile that verifies; the log says what was found, chosen and dropped.

    `probe` is called once, and once more after waiting for another worker to measure. With `waits_for_hub` a
    model that has to be downloaded is waited for while the hub does not answer. Raises ProfileError with the
    process's exit code if no profile can serve, or the pinned one cannot; ModelError.
    """
    seen = _survey_measured(settings, probe)
    choice = seen.choice
    for line in choice.log_lines():
        log.info(line)
    if choice.selected is None:
        for line in (choice.error or "").splitlines():
            log.error(line)
        raise ProfileError(choice.error or "", exit_code=choice.exit_code or 1)
    model_lock = ModelLock(settings.cache_path, seen.manifest.model.name)
    bundle = _read_bundle(seen.manifest, settings, waits_for_hub=waits_for_hub)
    if bundle.prompts.texts:
        names = ", ".join(bundle.prompts.texts)
        log.info("prompts", names=names, default=bundle.prompts.default or "none")
    for profile in choice.candidates:
        if profile not in choice.candidates:
            continue  # it loads exactly like one that has failed
        try:
            loaded = _load(profile, bundle, replace(seen, choice=choice), settings)
        except (BackendError, ModelError) as error:
            log.error("profile_failed", name=profile.name, reason=str(error))
            choice = with_failure(choice, profile.id, str(error))
            continue
        return Booted(
            survey=replace(seen, choice=choice),
            profile=profile,
            model=bundle.model,
            fingerprint=bundle.fingerprint,
            tokenizer=bundle.tokenizer,
            prompts=bundle.prompts,
            backend=loaded.backend,
            verified=loaded.verified,
            tokens_per_s=loaded.tokens_per_s,
            model_lock=model_lock,
        )
    raise ProfileError(choice.error or "", exit_code=choice.exit_code or 1)


def _read_bundle(manifest: Manifest, settings: Settings, *, waits_for_hub: bool) -> ModelBundle:
    """The model, tried again and again if asked for: a process that ended would be restarted for ever."""
    num_tries = 0
    if note := not_here_yet(manifest, settings):
        log.info("model_not_here", reason=note)
    while True:
        try:
            return read_bundle(manifest, settings)
        except HubUnreachable as error:
            if not waits_for_hub:
                raise
            num_tries += 1
            if num_tries == 1:
                log.warning("hub_unreachable", reason=str(error), retry_at_most_every_s=_HUB_BACKOFF.max_s)
            time.sleep(_HUB_BACKOFF.pause_s(num_tries))


def _survey_measured(settings: Settings, probe: Probe) -> Survey:
    """Survey the machine; under policy `measured`, measure the runnable profiles that were not yet."""
    facts = machine_facts(settings, probe=probe)
    seen = survey(settings, facts=facts)
    if not _unmeasured(seen, settings):
        return seen
    with _measuring_lock(settings) as lock:
        if lock is not None and lock.waited:
            facts = machine_facts(
                settings, probe=probe
            )  # free memory changed while the other worker measured
        seen = survey(settings, facts=facts)  # including what another worker of this host measured
        if missing := _unmeasured(seen, settings):
            names = ", ".join(profile.name for profile in missing)
            log.info("measuring", reason="policy measured has no measurements of these", profiles=names)
            measure_profiles(settings, facts=facts, profiles=missing)
            seen = survey(settings, facts=facts)
    return seen


def _unmeasured(seen: Survey, settings: Settings) -> list[Profile]:
    if settings.policy == "rules" or seen.choice.pinned:
        return []
    return [profile for profile in seen.choice.candidates if profile.id not in seen.measurements]


def _measuring_lock(settings: Settings) -> FileLock | nullcontext[None]:
    """Lets one worker measure at a time: concurrent ones would slow each other down."""
    path = measurements_path(settings) / "measuring.lock"
    try:
        return locked(path, waiting="measuring_wait", reason="another worker is measuring")
    except OSError as error:
        log.warning("measuring_not_locked", reason=error.strerror)
        return nullcontext()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Loaded:
    backend: Backend
    verified: Verified
    tokens_per_s: float


def _load(profile: Profile, bundle: ModelBundle, seen: Survey, settings: Settings) -> _Loaded:
    gpu = seen.choice.verdict(profile.id).gpu
    if gpu is not None and gpu.uuid:
        # By UUID, because the driver and CUDA number GPUs in different orders.
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu.uuid
    started_s = time.perf_counter()
    ensure_structure(profile, bundle, seen, settings)
    backend = load_profile(profile, bundle, settings, facts=seen.facts, gpu=gpu)
    loaded_s = time.perf_counter()
    try:
        verified = ensure_verified(backend, profile, bundle, seen, settings)
        texts = golden_tokens(bundle.tokenizer.golden_texts(), bundle.tokenizer)
        tokens_per_s = measured_tokens_per_s(backend, texts)
    except BaseException:
        backend.close()
        raise
    log.info(
        "profile_verified",
        name=profile.name,
        golden_cosine="none" if verified.golden_cosine is None else f"{verified.golden_cosine:.7f}",
        batch_cosine=round(verified.batch_cosine, 7),
        cached=str(verified.cached).lower(),
        tokens_per_s=round(tokens_per_s),
        load_s=round(loaded_s - started_s, 2),
        verify_s=round(time.perf_counter() - loaded_s, 2),
    )
    return _Loaded(backend=backend, verified=verified, tokens_per_s=tokens_per_s)
