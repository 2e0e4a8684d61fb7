"""Families with rotary positions: reads the fields of an Architecture from their config.json."""

from collections.abc import Callable, Mapping
from typing import Any

from producer.errors import ModelError
from worker.models.rope import Rope, read_rope

ConfigFields = dict[str, Any]
_DECODER_FIELDS = {"post_norm": False, "norm": "rms", "norm_bias": False, "embedding_norm": False}


def _nomic(config: Mapping[str, Any]) -> ConfigFields:
    # Biases, and frequencies for longer texts, are only in files of the network's first code.
    parts = {"qkv_proj_bias": ("qkv", "out"), "mlp_fc1_bias": ("up",), "mlp_fc2_bias": ("down",)}
    biased = tuple(part for name, parts in parts.items() if config.get(name) for part in parts)
    fields = _encoder(config, default_theta=1000.0, biased=biased)
    if config.get("rotary_scaling_factor"):
        # Beyond the length it was trained with, they depend on the longest text of a batch.
        fields |= {"max_positions": config.get("max_trained_positions", 2048), "open_ended": False}
    return fields


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
    every = config.get("global_attn_every_n_layers", 3)
    slides = _slides(config, lambda index: index % every != 0)
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
        "ropes": tuple(ropes["sliding_attention" if each else "full_attention"] for each in slides),
        "windows": tuple(local if each else 0 for each in slides),
    }


def _qwen2(config: Mapping[str, Any]) -> ConfigFields:
    return _decoder(config) | {"biased": ("qkv",), "windows": _qwen_windows(config)}


def _qwen3(config: Mapping[str, Any]) -> ConfigFields:
    return _decoder(config) | {"head_norm": True, "windows": _qwen_windows(config)}


def _qwen_windows(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The windows of the layers after the first `max_window_layers`, if the network uses them."""
    size = config.get("sliding_window")
    if not config.get("use_sliding_window") or size is None:
        if any(_slides(config, lambda index: False)):
            raise ModelError("config.json has layers with a window in layer_types, but no window")
        return (0,) * int(config["num_hidden_layers"])
    first = config["max_window_layers"]
    return tuple(_window(config, size) if slides else 0 for slides in _slides(config, lambda i: i >= first))


def _slides(config: Mapping[str, Any], default: Callable[[int], bool]) -> tuple[bool, ...]:
    """Which layers have a window: as layer_types states, else by a layer's index."""
    kinds, layers = config.get("layer_types"), config["num_hidden_layers"]
    if not kinds:
        return tuple(default(index) for index in range(layers))
    if len(kinds) != layers or not {"full_attention", "sliding_attention"}.issuperset(kinds):
        raise ModelError(
            f"config.json has layer_types {kinds!r:.80}; one of two kinds for each layer is expected, "
            "full_attention or sliding_attention"
        )
    return tuple(kind == "sliding_attention" for kind in kinds)


def _window(config: Mapping[str, Any], size: int) -> int:
    """How many tokens away a key may be: a causal window counts the query itself."""
    return _reach(size - 1 if _causal(config) else size, "sliding_window")


def _llama(config: Mapping[str, Any]) -> ConfigFields:
    return _decoder(config)


def _bidirectional_llama(config: Mapping[str, Any]) -> ConfigFields:
    return _decoder(config) | {"causal": False}


def _mistral(config: Mapping[str, Any]) -> ConfigFields:
    size = config.get("sliding_window")
    window = 0 if size is None else _window(config, size)
    return _decoder(config) | {"windows": (window,) * config["num_hidden_layers"]}


def _gemma2(config: Mapping[str, Any]) -> ConfigFields:
    slides = _slides(config, lambda index: (index + 1) % 2 != 0)
    window = _window(config, config["sliding_window"])
    return _gemma(config) | {
        "score_cap": float(config.get("attn_logit_softcapping", 50.0) or 0),
        "windows": tuple(window if each else 0 for each in slides),
    }


def _gemma(config: Mapping[str, Any]) -> ConfigFields:
    return _decoder({**config, "hidden_act": config["hidden_activation"]}) | {
        "head_dim": config["head_dim"],
        "branch_norm": True,
        "score_divisor": float(config["query_pre_attn_scalar"]),
    }


def _gemma3(config: Mapping[str, Any]) -> ConfigFields:
    both_ways = bool(config.get("use_bidirectional_attention"))  # null in files of transformers
    if both_ways and not _causal(config):
        raise ModelError("config.json has both use_bidirectional_attention and is_causal; remove is_causal")
    every = config.get("sliding_window_pattern", 6)
    slides = _slides(config, lambda index: (index + 1) % every != 0)
    # Such a window is stated as the total of both sides.
    size = config["sliding_window"]
    window = _reach(size // 2, "sliding_window") if both_ways else _window(config, size)
    wide, near = _gemma3_ropes(config)
    return _gemma({**config, "rope_parameters": None}) | {
        "head_norm": True,
        "causal": _causal(config) and not both_ways,
        "ropes": tuple(near if each else wide for each in slides),
        "windows": tuple(window if each else 0 for each in slides),
    }


def _gemma3_ropes(config: Mapping[str, Any]) -> tuple[Rope, Rope]:
    """The frequencies of layers that attend everywhere, and of those with a window."""
    wide, near = 1_000_000.0, 10_000.0
    if config.get("rope_parameters"):
        local = {**config, "rope_theta": config.get("rope_local_base_freq")}
        return (
            read_rope(config, default_theta=wide, kind="full_attention"),
            read_rope(local, default_theta=near, kind="sliding_attention"),
        )
    # transformers 4 has a key for the latter, and scales only the former.
    return (
        read_rope(config, default_theta=wide),
        read_rope({"rope_theta": config.get("rope_local_base_freq")}, default_theta=near),
    )


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
            "causal": _causal(config),
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


def _causal(config: Mapping[str, Any]) -> bool:
    """Whether later tokens are hidden: in transformers always, until version 5.2 read this key."""
    return _flag(config, "is_causal", default=True)


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
        "open_ended": True,
    }


#: model_type -> the key of its tensor names and the reader of its config.json
ROTARY_FAMILIES: dict[str, tuple[str, Callable[[Mapping[str, Any]], ConfigFields]]] = {
    "nomic_bert": ("nomic_bert", _nomic),
    "gte": ("gte", _gte),
    "modernbert": ("modernbert", _modernbert),
    "qwen2": ("decoder", _qwen2),
    "qwen3": ("decoder", _qwen3),
    "gemma2": ("gemma", _gemma2),
    "gemma3_text": ("gemma", _gemma3),
    "llama": ("decoder", _llama),
    "llama_bidirec": ("decoder", _bidirectional_llama),
    "mistral": ("decoder", _mistral),
}
