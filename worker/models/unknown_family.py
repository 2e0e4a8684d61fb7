"""A network of a family we have no description of: what its config.json must say all the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producer.errors import ModelError

# Families spell their sizes differently.
_HIDDEN = ("hidden_size", "d_model", "dim", "n_embd")
_POSITIONS = ("max_position_embeddings", "n_positions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlisted:
    """Sizes of a network that only transformers knows; `max_tokens` is None if positions set no limit."""

    kind: str
    vocab_size: int
    hidden: int
    max_tokens: int | None


def read_unlisted(config: Mapping[str, Any]) -> Unlisted:
    """The sizes in a parsed config.json. Raises ModelError if one is missing."""
    max_tokens = _first(config, _POSITIONS)
    if "relative_attention_num_buckets" in config and "max_position_embeddings" not in config:
        max_tokens = None  # T5 writes n_positions but has no table of that length
    return Unlisted(
        kind=str(config.get("model_type")),
        vocab_size=_needed(config, ("vocab_size",)),
        hidden=_needed(config, _HIDDEN),
        max_tokens=max_tokens,
    )


def _needed(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    found = _first(config, names)
    if found is None:
        raise ModelError(
            f"config.json of model_type {config.get('model_type')!r:.60} has no {' or '.join(names)}; "
            "only networks for text can be served"
        )
    return found


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = config.get(name)
        if type(value) is int and value > 0:
            return value
    return None
