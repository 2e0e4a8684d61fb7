"""Lists the cache: models, tokenizers, golden vectors, records, measurements, plans, matmul algorithms."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from selection import Manifest
from selection.manifests.catalog import manifests
from worker.storage.records import RecordOwner, read_record

_ModelNames = Mapping[str, str]  # by repository on the hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One item in the cache, kept or removed as a whole.

    `path` is its folder or file, `parts` are all of its files if there are several. `model` and `profile` are
    empty if unknown. `age_s` counts from the last write to any of it.
    """

    kind: str
    path: Path
    parts: tuple[Path, ...] = ()
    model: str = ""
    profile: str = ""
    num_bytes: int
    age_s: float


class _Owned(msgspec.Struct, frozen=True):
    """The owner that golden vectors and verification records name."""

    owner: RecordOwner = RecordOwner()


class _MeasurementKey(msgspec.Struct, frozen=True):
    model: str = ""
    profile_id: str = ""


class _Measured(msgspec.Struct, frozen=True):
    """The model and profile that a measurement names."""

    key: _MeasurementKey = _MeasurementKey()


class _PlanDescription(msgspec.Struct, frozen=True):
    profile_id: str = ""


def cache_entries(cache: Path) -> list[Entry]:
    """All entries that Embedmill made in the cache, by kind, then by name; other files are ignored."""
    known = manifests()
    profiles = {profile.id: (each.model.name, profile.name) for each in known for profile in each.profiles}
    return [
        *_models(cache / "hub", _names_by_source(known)),
        *_owned(cache / "golden", "golden vectors", known),
        *_owned(cache / "verified", "verification record", known),
        *_measurements(cache / "measurements", profiles),
        *_plans(cache / "plans", profiles),
        *_owned(cache / "token_ids", "token ids", known),
        *(_entry("tokenizer", path) for path in sorted((cache / "tokenizers").glob("*.json"))),
        *(_entry("matmul algorithms", path) for path in sorted((cache / "matmul").glob("*.json"))),
    ]


def hub_files(folder: Path) -> Iterator[Path]:
    """The files in a model's folder that take up space: its blobs, and files that are not links to one."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _names_by_source(known: tuple[Manifest, ...]) -> _ModelNames:
    return {
        source.removeprefix("hf:").partition("@")[0]: each.model.name
        for each in known
        for source in each.model.sources
        if source.startswith("hf:") and each.model.name != "fake/echo"
    }


def _models(hub: Path, names: _ModelNames) -> Iterator[Entry]:
    for folder in sorted(hub.glob("models--*")):
        repository = folder.name.removeprefix("models--").replace("--", "/")
        files = tuple(hub_files(folder))
        yield _entry("model", folder, files=files, model=names.get(repository, repository))


def _owned(folder: Path, kind: str, known: tuple[Manifest, ...]) -> Iterator[Entry]:
    for path in sorted(folder.glob("*.json")):
        owner = (read_record(path, _Owned) or _Owned()).owner
        name = owner.model
        model = next((each.model.name for each in known if name and each.model.is_called(name)), name)
        yield _entry(kind, path, model=model, profile=owner.profile)


def _measurements(folder: Path, profiles: Mapping[str, tuple[str, str]]) -> Iterator[Entry]:
    for path in sorted(folder.glob("*.json")):
        key = (read_record(path, _Measured) or _Measured()).key
        profile = profiles.get(key.profile_id, ("", key.profile_id))[1]
        yield _entry("measurement", path, model=key.model, profile=profile)


def _plans(folder: Path, profiles: Mapping[str, tuple[str, str]]) -> Iterator[Entry]:
    """A plan, its description, and TensorRT's own cache beside them under the same name."""
    stems = {path.with_suffix("") for path in folder.rglob("*") if path.suffix in (".plan", ".json")}
    for stem in sorted(stems):
        files = tuple(sorted(path for path in stem.parent.glob(f"{stem.name}.*") if path.is_file()))
        described = read_record(stem.with_suffix(".json"), _PlanDescription) or _PlanDescription()
        model, profile = profiles.get(described.profile_id, ("", described.profile_id))
        yield _entry("plan", stem.with_suffix(".plan"), files=files, model=model, profile=profile)


def _entry(
    kind: str, path: Path, *, files: tuple[Path, ...] = (), model: str = "", profile: str = ""
) -> Entry:
    stats = [each.stat() for each in (files or (path,)) if each.exists()]
    newest_s = max((each.st_mtime for each in stats), default=time.time())
    return Entry(
        kind=kind,
        path=path,
        parts=files,
        model=model,
        profile=profile,
        num_bytes=sum(each.st_size for each in stats),
        age_s=max(0.0, time.time() - newest_s),
    )
