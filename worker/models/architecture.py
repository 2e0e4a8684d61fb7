"""The description of a network, read from the config.json of transformers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from producer.errors import ModelError
from worker.models.keys.families import check_family_keys
from worker.models.keys.remote_code import in_native_words
from worker.models.rope import Rope
from worker.models.rotary_families import ROTARY_FAMILIES

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Everything about a network except its weights and its pooling.

    `kind` is the family, which decides the names of its tensors. `position_offset` is the row of the position
    table for the first token, and `max_positions` the number of rows. `relative_buckets` is 0 without a
    relative position bias. Activation "gelu" is exact (erf), "gelu_tanh" its approximation; with `gated` the
    first half of the up projection is activated and multiplied by the second. With `post_norm` norms follow
    the residual sums; otherwise they precede the branches, and a final norm ends the network. `biased` names
    the linear layers with a bias. `ropes` and `windows` have one entry per layer if positions are rotary; a
    window is how many tokens away a key may be, 0 for no limit. With `causal` tokens do not attend to later
    ones. With `head_norm` each query and key head is normalised (RMSNorm). With `branch_norm` a branch's
    output is normalised before it is added. Scores are divided by the root of `score_divisor`, by default the
    size of a head; with `score_cap` a tanh keeps them below it. With `open_ended` positions are computed for
    any length, and `max_positions` is only the length where none is asked for.

    A network may have no layers: then a token's vector is its row of the table.
    """

    kind: str
    vocab_size: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    activation: Activation
    gated: bool = False
    biased: tuple[str, ...] = ("qkv", "out", "up", "down")
    norm: Literal["layer", "rms"] = "layer"
    norm_bias: bool = True
    norm_eps: float
    post_norm: bool = True
    embedding_norm: bool = True
    head_norm: bool = False
    branch_norm: bool = False
    score_divisor: float = 0.0
    score_cap: float = 0.0
    causal: bool = False
    positions: Literal["absolute", "rotary", "none"] = "absolute"
    position_offset: int
    max_positions: int
    token_types: int
    relative_buckets: int = 0
    ropes: tuple[Rope, ...] = ()
    windows: tuple[int, ...] = ()
    open_ended: bool = False

    @property
    def max_tokens(self) -> int:
        """The length of the longest text that the positions cover, in tokens."""
        return self.max_positions - self.position_offset

    @property
    def score_scale(self) -> float:
        """The factor of attention scores."""
        return 1.0 / math.sqrt(self.score_divisor or self.head_dim)


def is_known_family(config: Mapping[str, Any]) -> bool:
    """False if a config.json names a family that we do not implement.

    True for one that is invalid in other ways, which `read_architecture` reports.
    """
    kind = config.get("model_type")
    families = (*_FAMILIES, *ROTARY_FAMILIES, "new")
    return not isinstance(kind, str) or bool(config.get("auto_map")) or kind in families


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """The network that a parsed config.json describes.

    Raises ModelError for an unknown family, for remote code, and for unsupported options.
    """
    config = in_native_words(config)
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in [*_FAMILIES, *ROTARY_FAMILIES]:
        known = ", ".join([*_FAMILIES, *ROTARY_FAMILIES])
        raise ModelError(f"config.json has model_type {kind!r:.60}; supported are {known}")
    check_family_keys(config, kind)
    if kind in ROTARY_FAMILIES:
        return _rotary(config, *ROTARY_FAMILIES[kind])
    return _FAMILIES[kind](config)


def _rotary(
    config: Mapping[str, Any], kind: str, read: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Architecture:
    for name in (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
    ):
        if _int(config, name) == 0:
            raise ModelError(f"config.json has {name} 0; a positive number is expected")
    try:
        fields = read(config)
    except KeyError as error:
        raise ModelError(f"config.json lacks {error}; use the one that came with the weights") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"config.json has a value of the wrong type: {error!s:.120}") from error
    return Architecture(kind=kind, **fields | {"activation": _activation(fields["activation"])})


def _bert(config: Mapping[str, Any]) -> Architecture:
    return _encoder(config, "bert", position_offset=0)


def _roberta(config: Mapping[str, Any]) -> Architecture:
    # Positions start after the padding token's row of the position table.
    return _encoder(config, "roberta", position_offset=_int(config, "pad_token_id", 1) + 1)


def _mpnet(config: Mapping[str, Any]) -> Architecture:
    # transformers hard-codes padding row 1 here, regardless of pad_token_id.
    buckets = _int(config, "relative_attention_num_buckets", 32)
    return _encoder(config, "mpnet", position_offset=2, token_types=0, relative_buckets=buckets)


def _encoder(
    config: Mapping[str, Any],
    kind: str,
    *,
    position_offset: int,
    token_types: int | None = None,
    relative_buckets: int = 0,
) -> Architecture:
    hidden, heads = _int(config, "hidden_size"), _int(config, "num_attention_heads")
    return Architecture(
        kind=kind,
        vocab_size=_int(config, "vocab_size"),
        hidden=hidden,
        layers=_int(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=_head_dim(hidden, heads),
        intermediate=_int(config, "intermediate_size"),
        activation=_activation(config.get("hidden_act", "gelu")),
        norm_eps=_epsilon(config),
        position_offset=position_offset,
        max_positions=_int(config, "max_position_embeddings"),
        token_types=_int(config, "type_vocab_size", 2) if token_types is None else token_types,
        relative_buckets=relative_buckets,
    )


def _distilbert(config: Mapping[str, Any]) -> Architecture:
    hidden, heads = _int(config, "dim"), _int(config, "n_heads")
    return Architecture(
        kind="distilbert",
        vocab_size=_int(config, "vocab_size"),
        hidden=hidden,
        layers=_int(config, "n_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=_head_dim(hidden, heads),
        intermediate=_int(config, "hidden_dim"),
        activation=_activation(config.get("activation", "gelu")),
        norm_eps=1e-12,  # hard-coded in transformers
        position_offset=0,
        max_positions=_int(config, "max_position_embeddings"),
        token_types=0,
    )


_FAMILIES: dict[str, Callable[[Mapping[str, Any]], Architecture]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "mpnet": _mpnet,
}


def _int(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name, default)
    # 0 is a valid padding id; a size of 0 fails the check of the tensors' shapes.
    if type(value) is not int or value < 0:
        raise ModelError(f"config.json has {name} {value!r:.60}; a non-negative integer is expected")
    return value


def _epsilon(config: Mapping[str, Any]) -> float:
    value = config.get("layer_norm_eps", 1e-12)
    if not isinstance(value, float) or value <= 0:
        raise ModelError(f"config.json has layer_norm_eps {value!r:.60}; a small positive number is expected")
    return value


def _head_dim(hidden: int, heads: int) -> int:
    if heads == 0 or hidden % heads:
        raise ModelError(
            f"config.json splits {hidden} hidden units over {heads} heads, which does not divide evenly"
        )
    return hidden // heads


def _activation(name: object) -> Activation:
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise ModelError(
            f"config.json has the activation {name!r:.60}; supported are " + ", ".join(_ACTIVATIONS)
        )
    return _ACTIVATIONS[name]
