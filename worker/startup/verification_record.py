"""The proof that a profile may serve here: compared in full once, remembered, and a full batch every time."""

import hashlib
import json
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from selection import Manifest, Profile
from worker.contract import Backend
from worker.settings import Settings
from worker.startup.golden import Golden, kept_golden, make_golden, read_golden
from worker.startup.loader import Loadable
from worker.startup.survey import Survey
from worker.startup.verification import Verified, owed_by, run_full_batch, verify
from worker.storage.json_file import keep_cached, read_cached

# Besides the inference libraries, which are facts: what else lies between a text and its vector.
_LIBRARIES = ("embedmill", "numpy", "onnx", "tokenizers", "triton")


def prove(
    backend: Backend, profile: Profile, loadable: Loadable, seen: Survey, settings: Settings
) -> Verified:
    """What the comparison with the golden vectors saw, now or at an earlier boot under the same conditions.

    Raises BackendError if a vector is not what it must be, ModelError for broken golden vectors.
    """
    name = _key(profile, loadable, seen, settings)
    path = settings.cache_path / "verified" / f"{name}.json"
    known = _known(path) if settings.verify == "cached" else None
    if known is not None:
        golden = _golden_at_hand(loadable, seen.manifest, settings)
        run_full_batch(backend, loadable.tokenizer, golden, owed_by(profile))
        return known
    golden = golden_for(profile, loadable, seen.manifest, settings)
    verified = verify(backend, loadable.tokenizer, golden, owed_by(profile))
    owner = {"model": seen.manifest.model.name, "profile": profile.name}
    keep_cached(path, {"of": owner, **asdict(verified)})
    return verified


def golden_for(profile: Profile, loadable: Loadable, manifest: Manifest, settings: Settings) -> Golden | None:
    """The golden vectors a profile is compared with, made here if need be; None if there can be none.

    Raises ModelError.
    """
    return _golden_at_hand(loadable, manifest, settings) or make_golden(profile, loadable, settings)


def _golden_at_hand(loadable: Loadable, manifest: Manifest, settings: Settings) -> Golden | None:
    shipped = manifest.model.golden
    return read_golden(shipped) if shipped is not None else kept_golden(loadable, settings)


def _known(path: Path) -> Verified | None:
    fields = read_cached(path)
    if fields is None:
        return None
    fields.pop("of", None)
    try:
        return replace(Verified(**fields), cached=True)
    except TypeError:
        return None


def _key(profile: Profile, loadable: Loadable, seen: Survey, settings: Settings) -> str:
    """A digest of everything that could change the vectors or what they are compared with."""
    facts, gpu, shipped = seen.facts, seen.choice.verdict(profile.id).gpu, seen.manifest.model.golden
    parts = {
        "profile": profile.id,
        "model": loadable.fingerprint,
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
