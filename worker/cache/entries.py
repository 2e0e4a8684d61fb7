"""What lies in the cache: models, golden vectors, verdicts, measurements, plans and autotune results."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from selection import Manifest
from selection.manifests.catalog import manifests
from worker.storage.json_file import read_cached

CacheNames = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that is kept or removed whole.

    `path` is its folder or file, `parts` are further files of it. `model` and `profile` are empty where the
    entry does not say. `age_s` is since anything of it was written.
    """

    kind: str
    path: Path
    parts: tuple[Path, ...] = ()
    model: str = ""
    profile: str = ""
    num_bytes: int
    age_s: float


def cache_entries(cache: Path) -> list[Entry]:
    """Everything in the cache that is ours, by kind and then by name; nothing else is looked at."""
    known = manifests()
    profiles = {profile.id: (each.model.name, profile.name) for each in known for profile in each.profiles}
    return [
        *_models(cache / "hub", _names_by_source(known)),
        *_described(cache / "golden", "golden vectors", known),
        *_described(cache / "verified", "verdict", known),
        *_measurements(cache / "measurements", profiles),
        *_plans(cache / "plans", profiles),
        *(_entry("autotune", path) for path in sorted((cache / "autotune").glob("*.json"))),
    ]


def hub_files(folder: Path) -> Iterator[Path]:
    """The files of a model's folder that take room: blobs, and what is no link to one."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _names_by_source(known: tuple[Manifest, ...]) -> CacheNames:
    return {
        source.removeprefix("hf:").partition("@")[0]: each.model.name
        for each in known
        for source in each.model.sources
        if source.startswith("hf:") and each.model.name != "fake/echo"
    }


def _models(hub: Path, names: CacheNames) -> Iterator[Entry]:
    for folder in sorted(hub.glob("models--*")):
        place = folder.name.removeprefix("models--").replace("--", "/")
        yield _entry("model", folder, files=tuple(hub_files(folder)), model=names.get(place, place))


def _described(folder: Path, kind: str, known: tuple[Manifest, ...]) -> Iterator[Entry]:
    for path in sorted(folder.glob("*.json")):
        owner = (read_cached(path) or {}).get("of") or {}
        called = str(owner.get("model", ""))
        model = next((each.model.name for each in known if called and each.model.is_called(called)), called)
        yield _entry(kind, path, model=model, profile=str(owner.get("profile", "")))


def _measurements(folder: Path, profiles: Mapping[str, tuple[str, str]]) -> Iterator[Entry]:
    for path in sorted(folder.glob("*.json")):
        key = (read_cached(path) or {}).get("key") or {}
        profile = profiles.get(key.get("profile_id", ""), ("", str(key.get("profile_id", ""))))[1]
        yield _entry("measurement", path, model=str(key.get("model", "")), profile=profile)


def _plans(folder: Path, profiles: Mapping[str, tuple[str, str]]) -> Iterator[Entry]:
    """A plan, its description, and what the library keeps beside them under the same name."""
    stems = {path.with_suffix("") for path in folder.rglob("*") if path.suffix in (".plan", ".json")}
    for stem in sorted(stems):
        files = tuple(sorted(path for path in stem.parent.glob(f"{stem.name}.*") if path.is_file()))
        described = read_cached(stem.with_suffix(".json")) or {}
        profile_id = str(described.get("profile_id", ""))
        model, profile = profiles.get(profile_id, ("", profile_id))
        yield _entry("plan", stem.with_suffix(".plan"), files=files, model=model, profile=profile)


def _entry(
    kind: str, path: Path, *, files: tuple[Path, ...] = (), model: str = "", profile: str = ""
) -> Entry:
    seen = [each.stat() for each in (files or (path,)) if each.exists()]
    newest_s = max((each.st_mtime for each in seen), default=time.time())
    return Entry(
        kind=kind,
        path=path,
        parts=files,
        model=model,
        profile=profile,
        num_bytes=sum(each.st_size for each in seen),
        age_s=max(0.0, time.time() - newest_s),
    )
