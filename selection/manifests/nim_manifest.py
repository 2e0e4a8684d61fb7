"""Reads NIM's own `model_manifest.yaml`, version 1 (a map by profile id) and 2 (a list)."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from pydantic import BaseModel, RootModel

from selection.machine.facts import Capability
from selection.machine.skus import SKUS
from selection.manifests.located_yaml import Document, Location, read_yaml
from selection.manifests.manifest import Manifest, ModelCard, Profile, Requirements
from selection.manifests.validation import validated

_BACKEND_TAGS = ("backend", "llm_engine", "model_type", "type")
_Fail = Callable[[str], NoReturn]


class _NimProfile(BaseModel):
    """The part of a profile that we read; the rest concerns NIM's server."""

    tags: dict[str, str]
    model: str | None = None
    profile_name: str | None = None
    description: str | None = None
    name: str | None = None


class _NimListedProfile(_NimProfile):
    id: str


class _Version1(RootModel[dict[str, _NimProfile]]):
    pass


class _Version2(BaseModel):
    profiles: list[_NimListedProfile]


def load_nim_manifest(path: Path, *, model: ModelCard | None = None) -> Manifest:
    """The profiles of a NIM manifest with its ids and tags, including those of unknown backends.

    `model` is the model they run; by default a card with the name in the manifest (version 2 has none).
    Raises ManifestError naming file, line and key.
    """
    document = read_yaml(path)
    entries = list(_entries(document))
    if not entries:
        document.fail((), "has no profiles")
    for profile_id, _, at in entries:
        if not re.fullmatch(r"[0-9a-f]{64}|[A-Za-z0-9_.-]+", profile_id):
            document.fail(at, f"{profile_id!r:.80} is not a profile id")
    names = [given.model for _, given, _ in entries if given.model is not None]
    card = model or ModelCard(name=names[0] if names else path.parent.name)
    profiles = tuple(
        _profile(name, given, partial(document.fail, (*at, "tags"))) for name, given, at in entries
    )
    return Manifest(model=card, profiles=_with_unique_names(profiles), path=path)


def _entries(document: Document) -> Iterator[tuple[str, _NimProfile, Location]]:
    """The id, content and location of each profile."""
    if isinstance(document.data, dict) and {"profiles", "schema_version"} <= document.data.keys():
        for index, listed in enumerate(validated(_Version2, document).profiles):
            yield listed.id, listed, ("profiles", index)
    else:
        for profile_id, given in validated(_Version1, document).root.items():
            yield profile_id, given, (profile_id,)


def _profile(profile_id: str, given: _NimProfile, fail: _Fail) -> Profile:
    tags = given.tags
    backend = next((tags[key].lower() for key in _BACKEND_TAGS if tags.get(key)), "unknown")
    precision = tags.get("precision", "unknown").lower()
    return Profile(
        id=profile_id,
        name=_name(given, backend=backend, precision=precision),
        backend=backend,
        device="cpu" if tags.get("device", "").lower() == "cpu" else "cuda",
        precision=precision,
        tags=MappingProxyType(tags),
        requires=_requirements(tags, fail, is_prebuilt=backend == "tensorrt"),
    )


def _requirements(tags: Mapping[str, str], fail: _Fail, *, is_prebuilt: bool) -> Requirements:
    gpu = re.sub(r"[^a-z0-9]+", "-", tags.get("gpu", "").lower()).removeprefix("nvidia-")
    pattern = tags.get("product_name_regex", "")
    try:
        re.compile(pattern)
    except re.error as error:
        fail(f"product_name_regex is not a regular expression: {error}")
    return Requirements(
        capabilities=_capabilities(tags.get("compute_capability", ""), fail),
        gpus=(gpu,) if gpu in SKUS else (),
        pci_ids=(tags["gpu_device"].lower(),) if tags.get("gpu_device") else (),
        # A GPU that is not in our table must match the whole name.
        gpu_pattern=pattern
        or (rf"(?i)(?:NVIDIA-)?{re.escape(tags['gpu'])}$" if gpu and gpu not in SKUS else ""),
        # NIM's engines do not name their host; those seen in the field were built on x86_64.
        cpu_architectures=("x86_64",) if is_prebuilt else (),
        num_gpus=_number(tags, "tp", fail) * _number(tags, "pp", fail),
    )


def _capabilities(text: str, fail: _Fail) -> tuple[Capability, ...]:
    found = re.findall(r"(\d+)\.(\d+)", text)
    if text and not found:
        fail(f"compute_capability must have the form 9.0, not {text!r:.60}")
    return tuple(sorted((int(major), int(minor)) for major, minor in found))


def _number(tags: Mapping[str, str], key: str, fail: _Fail) -> int:
    text = tags.get(key, "") or "1"
    if not text.isdecimal() or int(text) == 0:
        fail(f"{key} must be a whole number above 0, not {text!r:.60}")
    return int(text)


def _name(given: _NimProfile, *, backend: str, precision: str) -> str:
    for name in (given.profile_name, given.description, given.name):
        if name is not None:
            return name
    tags = given.tags
    capability = tags.get("compute_capability", "")
    gpu = tags.get("gpu") or tags.get("key") or (f"sm{capability.replace('.', '')}" if capability else "")
    parts = [gpu if gpu != backend else "", precision, backend]
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-").lower() for part in parts if part)


def _with_unique_names(profiles: tuple[Profile, ...]) -> tuple[Profile, ...]:
    """NIM does not promise unique names: profiles that share one get the start of their id."""
    names = [profile.name for profile in profiles]
    return tuple(
        replace(each, name=f"{each.name}-{each.id[:8]}") if names.count(each.name) > 1 else each
        for each in profiles
    )
