"""The head that turns token vectors into the embedding: pooling, dense layers, normalisation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from producer.errors import ModelError
from worker.models.config_file import read_object
from worker.models.dense import Dense, read_dense

Pooling = Literal["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens"]
_POOLINGS: dict[str, Pooling] = {
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "lasttoken",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The concatenated poolings, then the dense layers in order, then normalisation if `normalize`.

    Without `include_prompt` a prompt's tokens are attended to but not pooled.
    """

    poolings: tuple[Pooling, ...]
    include_prompt: bool
    denses: tuple[Dense, ...]
    normalize: bool


# The head that sentence-transformers adds to a plain transformers directory.
PLAIN_HEAD = Head(poolings=("mean",), include_prompt=True, denses=(), normalize=False)


def read_head(directory: Path) -> tuple[Path, Head]:
    """The transformer's folder in a model's directory, and the head.

    Raises ModelError for an unknown module or an unusual order of modules.
    """
    listing = directory / "modules.json"
    if not listing.is_file():
        return directory, replace(PLAIN_HEAD, normalize=_is_model2vec(directory, normalized=True))
    modules = _read_modules(listing)
    kinds = [kind for kind, _ in modules]
    num_denses = kinds.count("Dense")
    tokens = ["StaticEmbedding"] if kinds[:1] == ["StaticEmbedding"] else ["Transformer", "Pooling"]
    usual = [*tokens, *["Dense"] * num_denses]
    if kinds not in (usual, [*usual, "Normalize"]):
        raise ModelError(
            f"modules.json lists {', '.join(kinds)}; supported are Transformer and Pooling or a "
            "StaticEmbedding, any number of Dense, and optionally Normalize, in this order"
        )
    poolings, include_prompt = PLAIN_HEAD.poolings, True
    if "Pooling" in kinds:
        poolings, include_prompt = read_pooling(read_object(modules[1][1] / "config.json"))
    return modules[0][1], Head(
        poolings=poolings,
        include_prompt=include_prompt,
        denses=tuple(read_dense(path) for kind, path in modules if kind == "Dense"),
        normalize=kinds[-1] == "Normalize",
    )


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
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _LEGACY_POOLINGS.items() if config.get(key)] or ["mean"]
    if not isinstance(modes, list):
        modes = [modes]
    for mode in modes:
        if not isinstance(mode, str) or mode not in _POOLINGS:
            raise ModelError(f"the model's pooling is {mode!r:.60}; supported are " + ", ".join(_POOLINGS))
    return tuple(_POOLINGS[mode] for mode in modes), bool(config.get("include_prompt", True))


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
