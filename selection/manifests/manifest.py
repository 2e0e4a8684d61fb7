"""Models and their profiles as a manifest describes them, frozen, and the ids of profiles."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from selection.machine.facts import Capability, format_capability

#: Best first, which is not the order of bit widths; what NIM calls "lower precision".
PRECISIONS = ("fp8", "int8", "fp16", "bf16", "fp32")
BACKENDS = ("tensorrt", "onnx", "torch", "transformers", "fake")
DEVICES = ("cuda", "cpu")


class ManifestError(Exception):
    """A manifest that cannot be read: names file, line and key, and says what belongs there."""


def _frozen() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a manifest knows of a model; None or empty for what is unknown.

    `sources` are tried in order: `package:<module>/<folder>`, `hf:<owner>/<name>`, `dir:<path>`. `prompts`
    maps names to texts, `input_types` maps "query" and "passage" to names of prompts. `matryoshka` lists the
    sizes a vector may be cut to. The memory estimate uses the sizes from `num_parameters` on.
    """

    name: str
    family: str | None = None
    aliases: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    revision: str | None = None
    weights_sha256: str | None = None
    prompts: Mapping[str, str] = field(default_factory=_frozen)
    input_types: Mapping[str, str] = field(default_factory=_frozen)
    matryoshka: tuple[int, ...] = ()
    dimension: int | None = None
    max_text_tokens: int | None = None
    num_parameters: int | None = None
    vocabulary: int | None = None
    hidden: int | None = None
    intermediate: int | None = None
    layers: int | None = None
    heads: int | None = None
    golden: Path | None = None

    @property
    def pinned_sources(self) -> tuple[str, ...]:
        """`sources`, with those on the hub at `revision` if it is known."""
        return tuple(
            f"{source}@{self.revision}"
            if self.revision and source.startswith("hf:") and "@" not in source
            else source
            for source in self.sources
        )

    def is_called(self, name: str) -> bool:
        """True if `name` is the model's name, the part after its slash, or an alias, in any case."""
        known = {self.name, self.name.rpartition("/")[2], *self.aliases}
        return name.strip().lower() in {each.lower() for each in known}


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a profile requires of a machine; empty or None requires nothing.

    `capabilities` are exact, `min_capability` is a floor; `gpus` are names of `selection.machine.skus`,
    `pci_ids` are `device` or `device:vendor`; `gpu_pattern` is a regular expression for the product name
    with `-` for blanks.
    """

    capabilities: tuple[Capability, ...] = ()
    min_capability: Capability | None = None
    gpus: tuple[str, ...] = ()
    pci_ids: tuple[str, ...] = ()
    gpu_pattern: str = ""
    cpu_architectures: tuple[str, ...] = ()
    cpu_features: tuple[str, ...] = ()
    operating_systems: tuple[str, ...] = ()
    num_gpus: int = 1

    @property
    def names_hardware(self) -> bool:
        """True if it names exact hardware: then the profile counts as optimized for it."""
        return bool(self.capabilities or self.names_gpu or self.cpu_features)

    @property
    def names_gpu(self) -> bool:
        """True if it names a GPU model, not only a capability."""
        return bool(self.gpus or self.pci_ids or self.gpu_pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One way to run a model: backend, precision, requirements and how exact it must be.

    `id` is 64 hex digits of a hash of its content (without `why`) and the model's identity. To serve, its
    vectors must be as close to fp32 as format and depth allow (`selection.bounds`), or as `min_cosine` and
    `min_mean_cosine` state. `keep_16bit` names layers that fp8 keeps in 16 bit, such as "layers.0.qkv".
    `why` says what it is for if that is not obvious.
    """

    id: str
    name: str
    backend: str
    device: str
    precision: str
    min_cosine: float | None = None
    min_mean_cosine: float | None = None
    tags: Mapping[str, str] = field(default_factory=_frozen)
    max_batch_tokens: int | None = None
    max_text_tokens: int | None = None
    keep_16bit: tuple[str, ...] = ()
    requires: Requirements = Requirements()
    why: str = ""

    @property
    def generic(self) -> bool:
        """True if it names no hardware: a fallback if nothing optimized fits."""
        return not self.requires.names_hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A model, its profiles in the order of the file, the file, and the sets that it includes."""

    model: ModelCard
    profiles: tuple[Profile, ...]
    path: Path
    sets: tuple[str, ...] = ()


def with_id(profile: Profile, model: ModelCard) -> Profile:
    """The profile with its id: SHA-256 of its content and the model's name, revision and weights."""
    content = asdict(replace(profile, id="", why="", tags={}))
    for optional in ("keep_16bit", "min_cosine", "min_mean_cosine"):
        if not content[optional]:
            del content[optional]
    content["tags"] = dict(profile.tags)
    content["model"] = [model.name, model.revision, model.weights_sha256]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return replace(profile, id=hashlib.sha256(canonical.encode()).hexdigest())


def profile_tags(profile: Profile) -> Mapping[str, str]:
    """The tags every profile has, in the order the boot log shows them."""
    requires = profile.requires
    tags = {"type": profile.backend, "precision": profile.precision, "device": profile.device}
    if requires.capabilities:
        tags["compute_capability"] = ",".join(map(format_capability, requires.capabilities))
    if requires.gpus:
        tags["gpu"] = ",".join(requires.gpus)
    return MappingProxyType(tags)
