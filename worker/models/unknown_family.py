"""Families that only transformers implements: the sizes that their config.json must state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producer.errors import ModelError

# The keys of each family differ.
_HIDDEN = ("hidden_size", "d_model", "dim", "n_embd", "emb_dim")
_VOCABULARY = ("vocab_size", "n_words")
_LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "encoder_layers")
#: model_type -> the key with the length of a token vector, where that is not the hidden size
_OUTPUT_WIDTHS = {"opt": "word_embed_proj_dim", "embedding_gemma2_text": "embedding_dim"}
_POSITIONS = ("max_position_embeddings", "n_positions")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFamily:
    """Sizes of a network that only transformers can run.

    `max_tokens` is None if positions are unlimited, `layers` if the config does not say how many there are.
    """

    kind: str
    vocab_size: int
    hidden: int
    max_tokens: int | None
    layers: int | None = None


def read_unknown_family(config: Mapping[str, Any]) -> UnknownFamily:
    """The sizes in a parsed config.json. Raises ModelError if one is missing, or none could be enough."""
    _refuse_other_inputs(config)
    return UnknownFamily(
        kind=str(config.get("model_type")),
        vocab_size=_needed(config, _VOCABULARY),
        hidden=_output_width(config) or _needed(config, _HIDDEN),
        max_tokens=stated_positions(config),
        layers=_first(config, _LAYERS),
    )


def _refuse_other_inputs(config: Mapping[str, Any]) -> None:
    """Raise ModelError for a text network that does not read tokens of a vocabulary with a single encoder."""
    kind = f"config.json has model_type {config.get('model_type')!r:.60}"
    if isinstance(config.get("encoder"), dict) and isinstance(config.get("decoder"), dict):
        raise ModelError(
            f"{kind}, two networks in one, an encoder and a decoder; save the encoder alone as a model of "
            "its own (model.encoder.save_pretrained(DIR) in transformers), with the tokenizer beside it"
        )
    if "num_hash_buckets" in config and "vocab_size" not in config:
        raise ModelError(
            f"{kind}, a network that reads hashed characters, as CANINE does, instead of the tokens of a "
            "vocabulary; such networks are not served"
        )


def _output_width(config: Mapping[str, Any]) -> int | None:
    """The length of a token vector where the network's last step projects to another than its hidden size."""
    key = _OUTPUT_WIDTHS.get(str(config.get("model_type")))
    return None if key is None else _first(config, (key,))


def stated_hidden(config: Mapping[str, Any]) -> int | None:
    """The length of a token vector, None if the config.json does not state it."""
    return _first(config, _HIDDEN)


def stated_positions(config: Mapping[str, Any]) -> int | None:
    """The number of positions, None if they are unlimited or the config.json does not state it."""
    if "relative_attention_num_buckets" in config and "max_position_embeddings" not in config:
        return None  # T5 writes n_positions but has no table of that length
    return _first(config, _POSITIONS)


def _needed(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    found = _first(config, names)
    if found is None:
        raise ModelError(
            f"config.json of model_type {config.get('model_type')!r:.60} has no {' or '.join(names)}, which "
            "every network states that turns tokens into vectors; the file is damaged, or the model is none "
            "for texts"
        )
    return found


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = config.get(name)
        if type(value) is int and value > 0:
            return value
    return None
