"""From settings to a profile that is loaded and proven: probe, choose, load, verify."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import structlog

from producer.errors import BackendError, ModelError, ProfileError
from selection import Profile, with_failure
from worker.contract import Backend
from worker.models.model import Model
from worker.settings import Settings
from worker.startup.loader import Loadable, load_profile, read_loadable
from worker.startup.measurement import measured
from worker.startup.survey import Survey, measurements_path, survey
from worker.startup.verification import Verified
from worker.startup.verification_record import prove
from worker.storage.in_use import Hold
from worker.storage.lock import locked
from worker.tokenization.tokenizer import Tokenizer

__all__ = ["Booted", "Survey", "boot", "survey"]

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Booted:
    """A profile that serves: everything loaded and verified, and its part of the cache held.

    `fingerprint` is that of the model's files.
    """

    survey: Survey
    profile: Profile
    model: Model
    fingerprint: str
    tokenizer: Tokenizer
    backend: Backend
    verified: Verified
    hold: Hold


def boot(settings: Settings) -> Booted:
    """Load the first candidate that verifies, saying in the log what was found, taken and dropped.

    Raises ProfileError with the process's exit code if none serves or the pinned one does not; ModelError.
    """
    seen = _surveyed(settings)
    choice = seen.choice
    for line in choice.log_lines():
        log.info(line)
    if choice.selected is None:
        raise ProfileError(choice.error or "", exit_code=choice.exit_code or 1)
    hold = Hold(settings.cache_path, seen.manifest.model.name)
    loadable = read_loadable(seen.manifest, settings)
    while choice.selected is not None:
        profile = choice.selected
        try:
            backend, verified = _load(profile, loadable, replace(seen, choice=choice), settings)
        except (BackendError, ModelError) as error:
            log.error("profile_failed", name=profile.name, reason=str(error))
            choice = with_failure(choice, profile.id, str(error))
            continue
        return Booted(
            survey=replace(seen, choice=choice),
            profile=profile,
            model=loadable.model,
            fingerprint=loadable.fingerprint,
            tokenizer=loadable.tokenizer,
            backend=backend,
            verified=verified,
            hold=hold,
        )
    raise ProfileError(choice.error or "", exit_code=choice.exit_code or 1)


def _surveyed(settings: Settings) -> Survey:
    """The choice; under policy `measured` with a measurement of every runnable profile that can have one."""
    seen = survey(settings)
    if not _unmeasured(seen, settings):
        return seen
    with _only_measurer(settings):
        seen = survey(settings)  # another worker of this host may have measured meanwhile
        if missing := _unmeasured(seen, settings):
            names = ", ".join(profile.name for profile in missing)
            log.info("measuring", reason="policy measured has no measurement of them", profiles=names)
            measured(settings, profiles=missing)
            seen = survey(settings)
    return seen


def _unmeasured(seen: Survey, settings: Settings) -> list[Profile]:
    if settings.policy == "rules" or seen.choice.pinned:
        return []
    return [profile for profile in seen.choice.candidates if profile.id not in seen.measurements]


def _only_measurer(settings: Settings) -> AbstractContextManager[object]:
    """Workers that measured side by side would measure each other."""
    path = measurements_path(settings) / "measuring.lock"
    try:
        return locked(path, waiting="measuring_wait", reason="another worker measures")
    except OSError as error:
        log.warning("measuring_not_locked", reason=error.strerror)
        return nullcontext()


def _load(profile: Profile, loadable: Loadable, seen: Survey, settings: Settings) -> tuple[Backend, Verified]:
    gpu = seen.choice.verdict(profile.id).gpu
    started_s = time.perf_counter()
    backend = load_profile(profile, loadable, settings, facts=seen.facts, gpu=gpu)
    loaded_s = time.perf_counter()
    try:
        verified = prove(backend, profile, loadable, seen, settings)
    except BaseException:
        backend.close()
        raise
    log.info(
        "profile_verified",
        name=profile.name,
        golden_cosine="none" if verified.golden_cosine is None else f"{verified.golden_cosine:.7f}",
        company_cosine=round(verified.company_cosine, 7),
        cached=str(verified.cached).lower(),
        load_s=round(loaded_s - started_s, 2),
        verify_s=round(time.perf_counter() - loaded_s, 2),
    )
    return backend, verified
