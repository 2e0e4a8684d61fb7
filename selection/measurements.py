"""Caches what was measured on this machine, for the policy `measured`."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from selection.bounds import CosineBounds
from selection.machine.facts import Facts, Gpu
from selection.manifests.manifest import ModelCard, Profile
from selection.runtimes import library_for

MEASUREMENT_FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured: rates per second, bytes on the device, cosines to fp32, seconds to load.

    `min_cosine` and `min_mean_cosine` are what the cosines had to reach.
    """

    profile_id: str
    tokens_per_s: float
    texts_per_s: float
    memory_bytes: int
    worst_cosine: float
    mean_cosine: float
    min_cosine: float
    min_mean_cosine: float
    load_s: float

    @property
    def shortfall(self) -> str | None:
        """Which cosine to fp32 is too low, in words; None if both suffice."""
        bounds = CosineBounds(worst=self.min_cosine, mean=self.min_mean_cosine, why="to fp32")
        return bounds.shortfall(worst=self.worst_cosine, mean=self.mean_cosine)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementKey:
    """Everything a measurement depends on: if any field differs, it is another measurement."""

    profile_id: str
    model: str
    revision: str
    device: str
    driver: str
    runtime: str
    length_mix: str


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    key: MeasurementKey
    measurement: Measurement


def measurement_key(
    profile: Profile, model: ModelCard, facts: Facts, *, gpu: Gpu | None, length_mix: str
) -> MeasurementKey:
    """The key of a profile on a device here; `length_mix` names or hashes the lengths of the texts."""
    library = library_for(profile, facts, gpu=gpu)
    device = (
        f"{gpu.name} {gpu.mig_slice}".strip() if gpu else f"{facts.cpu.name} x{facts.cpu.num_cores}".strip()
    )
    return MeasurementKey(
        profile_id=profile.id,
        model=model.name,
        revision=model.revision or model.weights_sha256 or "",
        device=device,
        driver=(facts.driver_version or "") if gpu else "",
        runtime=f"{library.name} {library.version}" if library else "",
        length_mix=length_mix,
    )


def load_measurements(directory: Path, keys: Iterable[MeasurementKey]) -> dict[str, Measurement]:
    """What the cache holds under these keys, by profile id; a foreign or damaged file counts as absent."""
    found = (_read(_file(directory, key), key) for key in keys)
    return {each.profile_id: each for each in found if each is not None}


def store_measurement(directory: Path, key: MeasurementKey, measurement: Measurement) -> Path:
    """Write one measurement, whole or not at all; returns its file. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    target = _file(directory, key)
    content = _File(format=MEASUREMENT_FORMAT, key=key, measurement=measurement)
    descriptor, name = tempfile.mkstemp(dir=directory, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(content), indent=1))
        os.replace(name, target)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return target


def _file(directory: Path, key: MeasurementKey) -> Path:
    digest = hashlib.sha256(json.dumps(asdict(key), sort_keys=True).encode()).hexdigest()
    return directory / f"measured-{digest[:32]}.json"


def _read(path: Path, key: MeasurementKey) -> Measurement | None:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, ValueError):
        return None
    is_ours = content.format == MEASUREMENT_FORMAT and content.key == key
    return content.measurement if is_ours else None
