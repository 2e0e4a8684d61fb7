"""Our own manifests: `profiles/<model>.yaml`, with shared lists of profiles in `profiles/sets/`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from selection.manifests.located_yaml import Document, Location, read_yaml
from selection.manifests.manifest import Manifest, ModelCard, Profile, Requirements, profile_tags, with_id
from selection.manifests.manifest_schema import ManifestFile, ModelSection, ProfileSection, SetFile
from selection.manifests.validation import validated

SETS = "sets"
_Placed = tuple[Document, Location, Profile]


def load_manifest(path: Path) -> Manifest:
    """The manifest in `path`, its included sets resolved and every profile under its id.

    Raises ManifestError naming file, line and key.
    """
    document = read_yaml(path)
    file = validated(ManifestFile, document)
    model = _model(file.model, path)
    included = [each for index, name in enumerate(file.include) for each in _included(document, index, name)]
    loaded = [*included, *_profiles(document, file)]
    _refuse_duplicates(loaded)
    if not loaded:
        document.fail((), "has no profiles; list some under profiles or name a set under include")
    profiles = tuple(with_id(each, model) for *_, each in loaded)
    return Manifest(model=model, profiles=profiles, path=path, sets=file.include)


def model_of(path: Path) -> ModelCard:
    """Only the model a manifest is for. Raises ManifestError."""
    document = read_yaml(path)
    return _model(validated(ModelSection, document, ("model",)), path)


def shipped_profiles() -> Path:
    """The folder of the manifests that come with the package."""
    from importlib.resources import files

    return Path(str(files("profiles")))


def _included(document: Document, index: int, name: str) -> Iterator[_Placed]:
    """The profiles of a set: one beside the manifest takes precedence over a shipped one."""
    folders = (document.path.parent / SETS, shipped_profiles() / SETS)
    path = next((each for folder in folders if (each := folder / f"{name}.yaml").is_file()), None)
    if path is None:
        known = sorted({each.stem for folder in folders for each in folder.glob("*.yaml")})
        document.fail(("include", index), f"there is no set {name!r:.60}; known are {', '.join(known)}")
    shared = read_yaml(path)
    yield from _profiles(shared, validated(SetFile, shared))


def _refuse_duplicates(loaded: list[_Placed]) -> None:
    names: set[str] = set()
    for document, location, profile in loaded:
        if profile.name.lower() in names:
            document.fail(
                location, f"a second profile is called {profile.name}; names are how people pin profiles"
            )
        names.add(profile.name.lower())


def _model(section: ModelSection, path: Path) -> ModelCard:
    golden = path.parent / "golden" / f"{path.stem}.json"
    fields = dict(section) | {
        "prompts": MappingProxyType(section.prompts),
        "input_types": MappingProxyType({kind: name for kind, name in section.input_types if name}),
        "golden": golden if golden.is_file() else None,
    }
    return ModelCard(**fields)


def _profiles(document: Document, file: ManifestFile | SetFile) -> Iterator[_Placed]:
    for index, section in enumerate(file.profiles):
        yield document, ("profiles", index), _profile(section)


def _profile(section: ProfileSection) -> Profile:
    requires = Requirements(**dict(section.requires))
    fields = dict(section) | {"requires": requires, "why": section.why or "", "tags": {}}
    profile = Profile(id="", **fields)
    tags = {**profile_tags(profile), **section.tags}
    return replace(profile, tags=MappingProxyType(tags))
