"""NIM's own `model_manifest.yaml`, version 1 (a map by profile id) and 2 (a list), as a manifest of ours."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from selection.machine.facts import Capability
from selection.machine.skus import SKUS
from selection.manifests.manifest import Manifest, ModelCard, Profile, Requirements
from selection.manifests.yaml_nodes import Value, read_yaml

_BACKEND_TAGS = ("backend", "llm_engine", "model_type", "type")
_MIN_COSINE = {"fp8": 0.98, "int8": 0.99, "fp16": 0.9999, "bf16": 0.9999, "fp32": 0.99999}
_MIN_COSINE_ELSE = 0.99
_MIN_MEAN_COSINE = {"fp8": 0.995}


def load_nim_manifest(path: Path, *, model: ModelCard | None = None) -> Manifest:
    """The profiles of a NIM manifest, ids and tags as they stand there, also those of backends we lack.

    `model` is whose they are; without it a card with the name the manifest gives (version 2 gives none).
    Raises ManifestError naming file, line and key.
    """
    document = read_yaml(path)
    fields = document.fields()
    if "profiles" in fields and "schema_version" in fields:
        entries = list(_version_2(fields["profiles"]))
    else:
        entries = [(key, value, value.fields()) for key, value in fields.items()]
    if not entries:
        document.fail("has no profiles")
    names = [entry["model"].text() for _, _, entry in entries if "model" in entry]
    card = model or ModelCard(name=names[0] if names else path.parent.name)
    profiles = tuple(_profile(key, value, entry) for key, value, entry in entries)
    return Manifest(model=card, profiles=_with_unique_names(profiles), path=path)


def _version_2(profiles: Value) -> Iterator[tuple[str, Value, Mapping[str, Value]]]:
    for value in profiles.items():
        entry = value.fields()
        if "id" not in entry:
            value.fail("the key id is missing")
        yield entry["id"].text(), value, entry


def _profile(profile_id: str, value: Value, entry: Mapping[str, Value]) -> Profile:
    if not re.fullmatch(r"[0-9a-f]{64}|[A-Za-z0-9_.-]+", profile_id):
        value.fail(f"{profile_id!r:.80} is no profile id")
    if "tags" not in entry:
        value.fail("the key tags is missing")
    tags = {key: each.text() for key, each in entry["tags"].fields().items()}
    backend = next((tags[key].lower() for key in _BACKEND_TAGS if tags.get(key)), "unknown")
    precision = tags.get("precision", "unknown").lower()
    device = "cpu" if tags.get("device", "").lower() == "cpu" else "cuda"
    requires = _requirements(entry["tags"], tags, is_prebuilt=backend == "tensorrt")
    return Profile(
        id=profile_id,
        name=_name(entry, tags, backend=backend, precision=precision),
        backend=backend,
        device=device,
        precision=precision,
        min_cosine=_MIN_COSINE.get(precision, _MIN_COSINE_ELSE),
        min_mean_cosine=_MIN_MEAN_COSINE.get(precision),
        tags=MappingProxyType(tags),
        requires=requires,
    )


def _requirements(value: Value, tags: Mapping[str, str], *, is_prebuilt: bool) -> Requirements:
    gpu = re.sub(r"[^a-z0-9]+", "-", tags.get("gpu", "").lower()).removeprefix("nvidia-")
    pattern = tags.get("product_name_regex", "")
    try:
        re.compile(pattern)
    except re.error as error:
        value.fail(f"product_name_regex is no regular expression: {error}")
    return Requirements(
        capabilities=_capabilities(value, tags.get("compute_capability", "")),
        gpus=(gpu,) if gpu in SKUS else (),
        pci_ids=(tags["gpu_device"].lower(),) if tags.get("gpu_device") else (),
        # A GPU name we have no table for must still be that GPU, from its first letter to its last.
        gpu_pattern=pattern
        or (rf"(?i)(?:NVIDIA-)?{re.escape(tags['gpu'])}$" if gpu and gpu not in SKUS else ""),
        # NIM's engines say nothing of the host; those seen in the field were built on x86_64.
        cpu_architectures=("x86_64",) if is_prebuilt else (),
        num_gpus=_number(value, tags, "tp") * _number(value, tags, "pp"),
    )


def _capabilities(value: Value, text: str) -> tuple[Capability, ...]:
    found = re.findall(r"(\d+)\.(\d+)", text)
    if text and not found:
        value.fail(f"compute_capability must look like 9.0, not {text!r:.60}")
    return tuple(sorted((int(major), int(minor)) for major, minor in found))


def _number(value: Value, tags: Mapping[str, str], key: str) -> int:
    text = tags.get(key, "") or "1"
    if not text.isdecimal() or int(text) == 0:
        value.fail(f"{key} must be a whole number above 0, not {text!r:.60}")
    return int(text)


def _name(entry: Mapping[str, Value], tags: Mapping[str, str], *, backend: str, precision: str) -> str:
    for key in ("profile_name", "description", "name"):
        if key in entry:
            return entry[key].text()
    capability = tags.get("compute_capability", "")
    gpu = tags.get("gpu") or tags.get("key") or (f"sm{capability.replace('.', '')}" if capability else "")
    parts = [gpu if gpu != backend else "", precision, backend]
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-").lower() for part in parts if part)


def _with_unique_names(profiles: tuple[Profile, ...]) -> tuple[Profile, ...]:
    """NIM does not promise unique names: those that share one get the head of their id."""
    names = [profile.name for profile in profiles]
    return tuple(
        replace(each, name=f"{each.name}-{each.id[:8]}") if names.count(each.name) > 1 else each
        for each in profiles
    )
