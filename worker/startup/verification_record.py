"""Keeps verification records: the full comparison is made once, a full batch is run at every boot."""

import hashlib
import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import structlog

from selection import Manifest, Profile, cosine_bounds
from worker.contract import Backend
from worker.settings import Settings
from worker.startup.golden import Golden, cached_golden, make_golden, read_golden
from worker.startup.loader import ModelBundle
from worker.startup.survey import Survey
from worker.startup.verification import Verified, run_full_batch, verify_backend
from worker.storage.records import RecordOwner, read_record, write_record

log = structlog.stdlib.get_logger(__name__)

# Libraries between a text and its vector, besides the inference libraries, which are among the facts.
_LIBRARIES = ("embedmill", "numpy", "onnx", "tokenizers", "triton")


class _VerificationRecord(msgspec.Struct, frozen=True, kw_only=True):
    verified: Verified
    owner: RecordOwner


def ensure_verified(
    backend: Backend, profile: Profile, bundle: ModelBundle, seen: Survey, settings: Settings
) -> Verified:
    """Verify a loaded profile, or reuse what an earlier boot found under the same conditions.

    Raises BackendError if a vector fails its check, ModelError for broken golden vectors.
    """
    path = record_path(profile, bundle, seen, settings)
    bounds = cosine_bounds(profile, layers=bundle.model.network.layers)
    earlier = None if settings.verify == "always" else recorded(path)
    if earlier is not None:
        golden = _existing_golden(bundle, seen.manifest, settings)
        run_full_batch(backend, bundle.tokenizer, golden, bounds)
        return replace(earlier, cached=True)
    golden = golden_for(profile, bundle, seen.manifest, settings)
    verified = verify_backend(backend, bundle.tokenizer, golden)
    verified.check_batch(bounds)
    verified.check_golden(bounds)
    write_verified(path, verified, model=seen.manifest.model.name, profile=profile.name)
    return verified


def recorded(path: Path) -> Verified | None:
    """What an earlier boot found under the same conditions, or None."""
    record = read_record(path, _VerificationRecord)
    return None if record is None else record.verified


def write_verified(path: Path, verified: Verified, *, model: str, profile: str) -> None:
    """Keep what was found for the next boot."""
    owner = RecordOwner(model=model, profile=profile)
    write_record(path, _VerificationRecord(verified=verified, owner=owner))


def golden_for(
    profile: Profile, bundle: ModelBundle, manifest: Manifest, settings: Settings
) -> Golden | None:
    """The golden vectors a profile is compared with, computed if needed; None if there cannot be any.

    With EMBEDMILL_VERIFY=shipped none are computed. Raises ModelError.
    """
    found = _existing_golden(bundle, manifest, settings)
    if found is None and settings.verify == "shipped":
        log.warning("golden_missing", reason="EMBEDMILL_VERIFY=shipped: vectors are compared with none")
        return None
    return found or make_golden(profile, bundle, settings)


def _existing_golden(bundle: ModelBundle, manifest: Manifest, settings: Settings) -> Golden | None:
    shipped = manifest.model.golden
    return read_golden(shipped) if shipped is not None else cached_golden(bundle, settings)


def record_path(
    profile: Profile, bundle: ModelBundle, seen: Survey, settings: Settings, *, twin: str = ""
) -> Path:
    """The record's file, named by everything that could change the vectors or what they are compared with.

    `twin` is the wide format whose record it is, if it is not the profile's own.
    """
    facts, gpu, shipped = seen.facts, seen.choice.verdict(profile.id).gpu, seen.manifest.model.golden
    parts = {
        "profile": profile.id,
        "twin": twin,
        "model": bundle.fingerprint,
        # Without computed golden vectors less was proven.
        "shipped_only": settings.verify == "shipped",
        "golden": hashlib.sha256(read_golden(shipped).vectors.tobytes()).hexdigest() if shipped else "",
        "runtimes": sorted(f"{each.name} {each.version} {each.cuda}" for each in facts.runtimes),
        "libraries": [f"{name} {_version(name)}" for name in _LIBRARIES],
        "driver": facts.driver_version,
        "gpu": [gpu.name, gpu.capability, gpu.mig_slice] if gpu is not None else [],
        "cpu": [facts.cpu.name, facts.cpu.architecture, sorted(facts.cpu.features)],
        "batch": [settings.max_batch_tokens, settings.num_threads],
    }
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    return settings.cache_path / "verified" / f"{name}.json"


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
