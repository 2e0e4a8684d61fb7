"""The head that turns token vectors into the embedding: pooling, and the modules that follow it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from producer.errors import ModelError
from worker.models.config_file import read_object
from worker.models.dense import Dense, read_dense
from worker.models.keys.modules import check_module_keys
from worker.models.layer_norm import LayerNorm, read_layer_norm

Pooling = Literal["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"]
_POOLINGS: dict[str, Pooling] = {
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "lasttoken",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean",
}
# In the order in which sentence-transformers concatenates them.
_LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


_UNSERVED = {
    "Router": "one that embeds queries and documents by different networks",
    "Asym": "one that embeds queries and documents by different networks",
    "CLIPModel": "one for images and texts",
    "SpladePooling": "a sparse encoder (SPLADE)",
    "MLMTransformer": "a sparse encoder",
    "SparseAutoEncoder": "a sparse encoder",
    "SparseStaticEmbedding": "a sparse encoder",
    "LogitScore": "a cross-encoder, which scores pairs of texts",
}


@dataclass(frozen=True, slots=True)
class Normalize:
    """Scales a vector to unit length; a zero vector stays zero."""


HeadModule = Dense | LayerNorm | Normalize


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The concatenated poolings, then the modules in order.

    Without `include_prompt` a prompt's tokens are attended to but not pooled.
    """

    poolings: tuple[Pooling, ...]
    include_prompt: bool
    modules: tuple[HeadModule, ...] = ()

    @property
    def normalize(self) -> bool:
        """True if vectors have unit length."""
        return bool(self.modules) and isinstance(self.modules[-1], Normalize)

    @property
    def folders(self) -> list[Path]:
        """The folders of the modules that have weights."""
        return [module.directory for module in self.modules if not isinstance(module, Normalize)]

    def dim(self, hidden: int) -> int:
        """Length of the vectors over token vectors of `hidden` numbers.

        Raises ModelError if a module takes vectors of another length than it receives.
        """
        size = hidden * len(self.poolings)
        for module in self.modules:
            match module:
                case Dense(in_features=taken, out_features=given):
                    pass
                case LayerNorm(size=taken):
                    given = taken
                case _:
                    continue
            if taken != size:
                raise ModelError(f"{module.directory.name} takes {taken} values but receives {size}")
            size = given
        return size


# The head that sentence-transformers adds to a plain transformers directory.
PLAIN_HEAD = Head(poolings=("mean",), include_prompt=True)
_MODEL2VEC_HEAD = replace(PLAIN_HEAD, modules=(Normalize(),))
# What the code that llama_bidirec models bring along calls its poolings.
_STATED_POOLINGS: dict[str, Pooling] = {"avg": "mean", "cls": "cls", "last": "lasttoken"}


def plain_head(config: Mapping[str, Any]) -> Head:
    """The head of a directory without modules.json, from its config.json.

    Raises ModelError if that states a pooling that is not supported.
    """
    if config.get("model_type") != "llama_bidirec":
        return PLAIN_HEAD
    stated = config.get("pooling", "avg")
    if not isinstance(stated, str) or stated not in _STATED_POOLINGS:
        raise ModelError(
            f"config.json has pooling {stated!r:.60}; supported are " + ", ".join(_STATED_POOLINGS)
        )
    return replace(PLAIN_HEAD, poolings=(_STATED_POOLINGS[stated],))


def read_head(directory: Path) -> tuple[Path, Head]:
    """The transformer's folder in a model's directory, and the head.

    Raises ModelError for a module that is not supported, naming it.
    """
    listing = directory / "modules.json"
    if not listing.is_file():
        return directory, _MODEL2VEC_HEAD if _is_model2vec(directory, normalized=True) else PLAIN_HEAD
    modules = _read_modules(listing)
    kinds = [kind for kind, _ in modules]
    for kind in kinds:
        if kind in _UNSERVED:
            raise ModelError(
                f"modules.json lists {kind}: the model is {_UNSERVED[kind]}; only models with one dense "
                "vector per text are served"
            )
    if "Transformer" in kinds and "Pooling" not in kinds:
        raise ModelError(
            f"modules.json lists {', '.join(kinds)} without a Pooling: the model gives a vector per token "
            "(late interaction); only models with one vector per text are served"
        )
    # A StaticEmbedding gives the mean itself.
    static = kinds[:1] == ["StaticEmbedding"]
    start, known = (1, {*_READERS}) if static else (2, {"Pooling", *_READERS})
    if not (static or kinds[:2] == ["Transformer", "Pooling"]) or not known.issuperset(kinds[start:]):
        raise ModelError(
            f"modules.json lists {', '.join(kinds)}; supported are Transformer and Pooling, or a "
            f"StaticEmbedding, then {', '.join(_READERS)} in any order and number"
        )
    head = PLAIN_HEAD
    for kind, path in modules[1:]:
        if kind == "Pooling":
            # It reads the token vectors again: what came before has no effect.
            poolings, include_prompt = read_pooling(read_object(path / "config.json"))
            head = Head(poolings=poolings, include_prompt=include_prompt)
        elif (module := _READERS[kind](path)) is not None:
            head = replace(head, modules=(*head.modules, module))
    return modules[0][1], head


def is_static(directory: Path) -> bool:
    """True if the model is a StaticEmbedding, by modules.json, or by model2vec's config.json without one."""
    listing = directory / "modules.json"
    if not listing.is_file():
        return _is_model2vec(directory)
    return [kind for kind, _ in _read_modules(listing)[:1]] == ["StaticEmbedding"]


def _is_model2vec(directory: Path, *, normalized: bool = False) -> bool:
    """True for a directory of model2vec; with `normalized`, only if its vectors have unit length."""
    path = directory / "config.json"
    config = read_object(path) if path.is_file() else {}
    return config.get("model_type") == "model2vec" and (bool(config.get("normalize")) or not normalized)


def read_pooling(config: Mapping[str, Any]) -> tuple[tuple[Pooling, ...], bool]:
    """The poolings of a Pooling module's config (old or new keys), and include_prompt. Raises ModelError."""
    check_module_keys(config, "Pooling", file="the Pooling module's config.json")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _LEGACY_POOLINGS.items() if config.get(key)] or ["mean"]
    if not isinstance(modes, list):
        modes = [modes]
    for mode in modes:
        if not isinstance(mode, str) or mode not in _POOLINGS:
            raise ModelError(f"the model's pooling is {mode!r:.60}; supported are " + ", ".join(_POOLINGS))
    return tuple(_POOLINGS[mode] for mode in modes), bool(config.get("include_prompt", True))


def _read_normalize(directory: Path) -> Normalize:
    _check_config(directory, "Normalize")
    return Normalize()


def _skip_dropout(directory: Path) -> None:
    """Dropout changes nothing at inference."""
    _check_config(directory, "Dropout")


def _check_config(directory: Path, kind: str) -> None:
    """Older versions of sentence-transformers write no config for modules without weights."""
    path = directory / "config.json"
    if path.is_file():
        check_module_keys(read_object(path), kind, file=f"{directory.name}/config.json")


_READERS: dict[str, Callable[[Path], HeadModule | None]] = {
    "Dense": read_dense,
    "LayerNorm": read_layer_norm,
    "Normalize": _read_normalize,
    "Dropout": _skip_dropout,
}


def _read_modules(listing: Path) -> list[tuple[str, Path]]:
    """The class name and directory of each module. Raises ModelError for modules of other packages."""
    try:
        rows = [(str(row["type"]), str(row["path"])) for row in json.loads(listing.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{listing} is not a list of modules; download the model again") from error
    modules = []
    for kind, path in rows:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ModelError(f"modules.json places a module at {path!r:.80}, outside the model's directory")
        if not kind.startswith("sentence_transformers."):
            raise ModelError(
                f"modules.json names {kind!r:.80}, code that comes with the model, which is never run"
            )
        modules.append((kind.rpartition(".")[2], listing.parent / path))
    return modules
