"""Finds the manifest of a model by its name."""

from collections.abc import Sequence
from pathlib import Path

from selection.manifests.located_yaml import read_yaml
from selection.manifests.manifest import Manifest, ModelCard, with_id
from selection.manifests.manifest_file import load_manifest, model_of, shipped_profiles
from selection.manifests.nim_manifest import load_nim_manifest

GENERIC = "generic"


def manifest_for(model: str, *, directories: Sequence[Path] = ()) -> Manifest:
    """The manifest of the model with that name or alias, in any case; `directories` are searched before ours.

    A model without a manifest gets the profiles of `generic.yaml` under its own name; if the name is the path
    of a folder, that is its source. Raises ManifestError if a manifest on the way cannot be read.
    """
    for folder in (*directories, shipped_profiles()):
        for path in sorted(folder.glob("*.yaml")):
            if path.stem != GENERIC and model_of(path).is_called(model):
                return load_manifest(path)
    generic = load_manifest(shipped_profiles() / f"{GENERIC}.yaml")
    card = ModelCard(name=model.strip(), sources=(_source(model.strip()),))
    profiles = tuple(with_id(profile, card) for profile in generic.profiles)
    return Manifest(model=card, profiles=profiles, path=generic.path)


def manifest_at(path: Path, *, model: str = "") -> Manifest:
    """The manifest in a file, ours or NIM's; for NIM's our own manifests describe `model`.

    Raises ManifestError.
    """
    document = read_yaml(path)
    if isinstance(document.data, dict) and "schema" in document.data:
        return load_manifest(path)
    return load_nim_manifest(path, model=manifest_for(model).model if model else None)


def manifests() -> tuple[Manifest, ...]:
    """All shipped manifests, generic.yaml included, in the order of file names. Raises ManifestError."""
    return tuple(load_manifest(path) for path in sorted(shipped_profiles().glob("*.yaml")))


def shipped_models() -> tuple[Manifest, ...]:
    """The manifests of models that compute embeddings: not that for all others, nor the fake one."""
    return tuple(
        each
        for each in manifests()
        if each.path.stem != GENERIC and any(profile.backend != "fake" for profile in each.profiles)
    )


def _source(model: str) -> str:
    is_folder = model.startswith(("/", "./", "../", "~")) or Path(model).is_dir()
    return f"dir:{Path(model).expanduser()}" if is_folder else f"hf:{model}"
