"""Families with rotary positions: reads the fields of an Architecture from their config.json."""

from collections.abc import Callable, Mapping
from typing import Any

from producer.errors import ModelError
from worker.models.rope import read_rope

ConfigFields = dict[str, Any]
_DECODER_FIELDS = {"post_norm": False, "norm": "rms", "norm_bias": False, "embedding_norm": False}


def _nomic(config: Mapping[str, Any]) -> ConfigFields:
    return _encoder(config, default_theta=1000.0, biased=())


def _gte(config: Mapping[str, Any]) -> ConfigFields:
    return _encoder(config, default_theta=160_000.0, biased=("qkv", "out", "down"))


def _encoder(config: Mapping[str, Any], *, default_theta: float, biased: tuple[str, ...]) -> ConfigFields:
    layers = config["num_hidden_layers"]
    return _sizes(config) | {
        "kv_heads": config["num_attention_heads"],
        "activation": config["hidden_act"],
        "norm_eps": float(config["layer_norm_eps"]),
        "token_types": config["type_vocab_size"],
        "biased": biased,
        "ropes": (read_rope(config, default_theta=default_theta),) * layers,
        "windows": (0,) * layers,
    }


def _modernbert(config: Mapping[str, Any]) -> ConfigFields:
    layers = config["num_hidden_layers"]
    every = config.get("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or [
        "sliding_attention" if index % every else "full_attention" for index in range(layers)
    ]
    if len(kinds) != layers or not {*kinds} <= {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"config.json has layer_types {kinds!r:.80}; one of two kinds for each layer is expected"
        )
    local = _reach(config["local_attention"] // 2, "local_attention")
    old_keys = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
    default = {"full_attention": 160_000.0, "sliding_attention": 10_000.0}
    ropes = {
        kind: read_rope(config, default_theta=config.get(old_keys[kind], default[kind]), kind=kind)
        for kind in default
    }
    return _sizes(config) | {
        "kv_heads": config["num_attention_heads"],
        "activation": config["hidden_activation"],
        "norm_eps": float(config["norm_eps"]),
        "norm_bias": _flag(config, "norm_bias"),
        "post_norm": False,
        "token_types": 0,
        "biased": _biased(config),
        "ropes": tuple(ropes[kind] for kind in kinds),
        "windows": tuple(local if "sliding" in kind else 0 for kind in kinds),
    }


def _qwen3(config: Mapping[str, Any]) -> ConfigFields:
    return _decoder(config) | {"head_norm": True}


def _llama(config: Mapping[str, Any]) -> ConfigFields:
    return _decoder(config)


def _bidirectional_llama(config: Mapping[str, Any]) -> ConfigFields:
    return _decoder(config) | {"causal": False}


def _mistral(config: Mapping[str, Any]) -> ConfigFields:
    fields = _decoder(config)
    window = config.get("sliding_window") or 0
    if fields["causal"] and window:
        # A token attends to itself and the tokens before it, `sliding_window` in total.
        window = _reach(window - 1, "sliding_window")
    return fields | {"windows": (window,) * config["num_hidden_layers"]}


def _decoder(config: Mapping[str, Any]) -> ConfigFields:
    layers = config["num_hidden_layers"]
    return (
        _sizes(config)
        | _DECODER_FIELDS
        | {
            "kv_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
            "activation": config["hidden_act"],
            "norm_eps": float(config["rms_norm_eps"]),
            "token_types": 0,
            "biased": _biased(config),
            "ropes": (read_rope(config, default_theta=10_000.0),) * layers,
            "windows": (0,) * layers,
            # transformers hides later tokens unless this key, since version 5.2, says otherwise.
            "causal": _flag(config, "is_causal", default=True),
        }
    )


def _reach(tokens: int, name: str) -> int:
    """How far a token attends; 0 would mean without a limit."""
    if tokens <= 0:
        raise ModelError(f"config.json has a {name} with which a token attends to nothing but itself")
    return tokens


def _biased(config: Mapping[str, Any]) -> tuple[str, ...]:
    attention, feed_forward = _flag(config, "attention_bias"), _flag(config, "mlp_bias")
    return ("qkv", "out") * attention + ("up", "down") * feed_forward


def _flag(config: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    stated = config.get(name, default)
    if not isinstance(stated, bool):
        raise ModelError(f"config.json has {name} {stated!r:.60}; true or false is expected")
    return stated


def _sizes(config: Mapping[str, Any]) -> ConfigFields:
    heads = config["num_attention_heads"]
    return {
        "vocab_size": config["vocab_size"],
        "hidden": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "intermediate": config["intermediate_size"],
        "max_positions": config["max_position_embeddings"],
        "gated": True,
        "positions": "rotary",
        "position_offset": 0,
    }


#: model_type -> the key of its tensor names and the reader of its config.json
ROTARY_FAMILIES: dict[str, tuple[str, Callable[[Mapping[str, Any]], ConfigFields]]] = {
    "nomic_bert": ("nomic_bert", _nomic),
    "gte": ("gte", _gte),
    "modernbert": ("modernbert", _modernbert),
    "qwen3": ("decoder", _qwen3),
    "llama": ("decoder", _llama),
    "llama_bidirec": ("decoder", _bidirectional_llama),
    "mistral": ("decoder", _mistral),
}
