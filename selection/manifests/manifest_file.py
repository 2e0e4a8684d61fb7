"""Our own manifests: `profiles/<model>.yaml`, with shared lists of profiles in `profiles/sets/`."""

import re
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType

from selection.machine.facts import Capability
from selection.machine.skus import SKUS
from selection.manifests.manifest import (
    BACKENDS,
    DEVICES,
    PRECISIONS,
    Manifest,
    ModelCard,
    Profile,
    Requirements,
    profile_tags,
    with_id,
)
from selection.manifests.yaml_nodes import Fields, Value, read_yaml

SCHEMA = "1"
SETS = "sets"
_MODEL_KEYS = tuple(each.name for each in fields(ModelCard) if each.name != "golden")
_PROFILE_KEYS = tuple(each.name for each in fields(Profile) if each.name != "id")
_REQUIRES_KEYS = tuple(each.name for each in fields(Requirements) if each.name != "gpu_pattern")


def load_manifest(path: Path) -> Manifest:
    """The manifest in `path`, its included sets resolved and every profile under its id.

    Raises ManifestError naming file, line and key.
    """
    document = read_yaml(path)
    given = _document(document, ("schema", "model", "include", "profiles"), ("schema", "model"))
    model = _model(given["model"], path)
    loaded: list[tuple[Value, Profile]] = []
    if "include" in given:
        for included in given["include"].items():
            loaded += _included(included)
    if "profiles" in given:
        loaded += [(value, _profile(value)) for value in given["profiles"].items()]
    _refuse_duplicates(loaded)
    if not loaded:
        document.fail("has no profiles; give some under profiles or name a set under include")
    return Manifest(model=model, profiles=tuple(with_id(each, model) for _, each in loaded), path=path)


def model_of(path: Path) -> ModelCard:
    """Only the model a manifest is for. Raises ManifestError."""
    document = read_yaml(path)
    given = document.fields()
    if "model" not in given:
        document.fail("the key model is missing")
    return _model(given["model"], path)


def shipped_profiles() -> Path:
    """The folder of the manifests that come with the package."""
    from importlib.resources import files

    return Path(str(files("profiles")))


def _document(document: Value, known: tuple[str, ...], needed: tuple[str, ...]) -> Fields:
    given = document.fields(known)
    for key in needed:
        if key not in given:
            document.fail(f"the key {key} is missing")
    given["schema"].text((SCHEMA,))
    return given


def _included(value: Value) -> list[tuple[Value, Profile]]:
    """The profiles of a set: one beside the manifest goes before a shipped one of the same name."""
    name = value.text()
    folders = (value.path.parent / SETS, shipped_profiles() / SETS)
    path = next((each for folder in folders if (each := folder / f"{name}.yaml").is_file()), None)
    if path is None:
        known = sorted({each.stem for folder in folders for each in folder.glob("*.yaml")})
        value.fail(f"there is no set {name!r:.60}; known are {', '.join(known)}")
    given = _document(read_yaml(path), ("schema", "profiles"), ("schema", "profiles"))
    return [(each, _profile(each)) for each in given["profiles"].items()]


def _refuse_duplicates(loaded: list[tuple[Value, Profile]]) -> None:
    names: set[str] = set()
    for value, profile in loaded:
        if profile.name.lower() in names:
            value.fail(f"a second profile is called {profile.name}; names are how people pin profiles")
        names.add(profile.name.lower())


def _model(value: Value, path: Path) -> ModelCard:
    given = value.fields(_MODEL_KEYS).given()
    if "name" not in given:
        value.fail("the key name is missing")
    prompts = given["prompts"].fields(("query", "passage")) if "prompts" in given else {}
    sizes = given["matryoshka"].items() if "matryoshka" in given else ()
    golden = path.parent / "golden" / f"{path.stem}.json"
    return ModelCard(
        name=given["name"].text(),
        aliases=given.texts("aliases"),
        sources=given.texts("sources"),
        revision=given.text("revision"),
        weights_sha256=_sha256(given),
        prompts=MappingProxyType({key: each.text() for key, each in prompts.items()}),
        matryoshka=tuple(each.count() for each in sizes),
        dimension=given.count("dimension"),
        max_text_tokens=given.count("max_text_tokens"),
        num_parameters=given.count("num_parameters"),
        vocabulary=given.count("vocabulary"),
        hidden=given.count("hidden"),
        intermediate=given.count("intermediate"),
        layers=given.count("layers"),
        heads=given.count("heads"),
        golden=golden if golden.is_file() else None,
    )


def _sha256(given: Fields) -> str | None:
    text = given.text("weights_sha256")
    if text is not None and not re.fullmatch("[0-9a-f]{64}", text):
        given["weights_sha256"].fail("must be 64 lower-case hex digits")
    return text


def _profile(value: Value) -> Profile:
    given = value.fields(_PROFILE_KEYS).given()
    for key in ("name", "backend", "device", "precision", "min_cosine"):
        if key not in given:
            value.fail(f"the key {key} is missing")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", given["name"].text()):
        given["name"].fail("must be letters, digits, dots, dashes and underscores: people type it")
    profile = Profile(
        id="",
        name=given["name"].text(),
        backend=given["backend"].text(BACKENDS),
        device=given["device"].text(DEVICES),
        precision=given["precision"].text(PRECISIONS),
        min_cosine=given["min_cosine"].fraction(),
        min_mean_cosine=given["min_mean_cosine"].fraction() if "min_mean_cosine" in given else None,
        max_batch_tokens=given.count("max_batch_tokens"),
        max_text_tokens=given.count("max_text_tokens"),
        keep_16bit=_keep_16bit(given),
        requires=_requirements(given["requires"]) if "requires" in given else Requirements(),
        why=given.text("why") or "",
    )
    own = given["tags"].fields() if "tags" in given else {}
    tags = dict(profile_tags(profile)) | {key: each.text() for key, each in own.items()}
    return replace(profile, tags=MappingProxyType(tags))


def _keep_16bit(given: Fields) -> tuple[str, ...]:
    """Sorted, because the order means nothing and must not make another id."""
    layers = list(given["keep_16bit"].items()) if "keep_16bit" in given else []
    for layer in layers:
        if not re.fullmatch(r"layers\.\d+\.(qkv|up|down)", layer.text()):
            layer.fail(f"must be layers.<i>.qkv, .up or .down, not {layer.text()!r:.60}")
    if layers and (given["backend"].text(), given["precision"].text()) != ("torch", "fp8"):
        given["keep_16bit"].fail("is for the torch backend in fp8; other profiles leave it out")
    return tuple(sorted({layer.text() for layer in layers}))


def _requirements(value: Value) -> Requirements:
    given = value.fields(_REQUIRES_KEYS).given()
    capabilities = given["capabilities"].items() if "capabilities" in given else ()
    return Requirements(
        capabilities=tuple(sorted(_capability(each) for each in capabilities)),
        min_capability=_capability(given["min_capability"]) if "min_capability" in given else None,
        gpus=tuple(sorted(given.texts("gpus", SKUS))),
        pci_ids=tuple(sorted(given.texts("pci_ids"))),
        cpu_architectures=tuple(sorted(given.texts("cpu_architectures"))),
        cpu_features=tuple(sorted(given.texts("cpu_features"))),
        operating_systems=tuple(sorted(given.texts("operating_systems"))),
        num_gpus=given.count("num_gpus") or 1,
    )


def _capability(value: Value) -> Capability:
    match = re.fullmatch(r"(\d+)\.(\d+)", value.text())
    if match is None:
        value.fail(f"must be a compute capability such as 9.0, not {value.text()!r:.60}")
    return int(match[1]), int(match[2])
