"""Keeps verification records: the full comparison is made once, a full batch is run at every boot."""

import hashlib
import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

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
    name = _key(profile, bundle, seen, settings)
    path = settings.cache_path / "verified" / f"{name}.json"
    bounds = cosine_bounds(profile, layers=bundle.model.network.layers)
    record = None if settings.verify == "always" else read_record(path, _VerificationRecord)
    if record is not None:
        golden = _existing_golden(bundle, seen.manifest, settings)
        run_full_batch(backend, bundle.tokenizer, golden, bounds)
        return replace(record.verified, cached=True)
    golden = golden_for(profile, bundle, seen.manifest, settings)
    verified = verify_backend(backend, bundle.tokenizer, golden)
    verified.check_batch(bounds)
    verified.check_golden(bounds)
    owner = RecordOwner(model=seen.manifest.model.name, profile=profile.name)
    write_record(path, _VerificationRecord(verified=verified, owner=owner))
    return verified


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


def _key(profile: Profile, bundle: ModelBundle, seen: Survey, settings: Settings) -> str:
    """A digest of everything that could change the vectors or what they are compared with."""
    facts, gpu, shipped = seen.facts, seen.choice.verdict(profile.id).gpu, seen.manifest.model.golden
    parts = {
        "profile": profile.id,
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
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
