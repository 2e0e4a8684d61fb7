"""Networks that models bring along as code and that we have: their config.json in the words of transformers.

A config.json with `auto_map` names Python classes in the model's repository, which are never run. Those of a
few networks are recognised by name, and their keys translated to those of the family in transformers. Keys
that would change the computation must have the value that our network computes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from producer.errors import ModelError

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCode:
    """The classes of one network: `model` and `config` as auto_map names them, `config` "" if it names none.

    `repositories` are those that other models refer to, as in "<repository>--<class>".
    """

    model_type: str
    model: str
    config: str
    repositories: tuple[str, ...] = ()

    def is_named_by(self, config: Config) -> bool:
        """True if a config.json asks for these classes."""
        classes = config["auto_map"]
        if config.get("model_type") != self.model_type or not isinstance(classes, Mapping):
            return False
        named = self._local(classes.get("AutoModel")), self._local(classes.get("AutoConfig") or self.config)
        return named == (self.model, self.config)

    def _local(self, name: object) -> str:
        """A class without the repository it comes from, if that is known."""
        repository, _, local = str(name).rpartition("--")
        return local if repository in ("", *self.repositories) else str(name)


_LLAMA = (
    "llama_bidirectional_model.LlamaBidirectionalModel",
    "llama_bidirectional_model.LlamaBidirectionalConfig",
)
KNOWN_CODE = (
    KnownCode(
        model_type="nomic_bert",
        model="modeling_hf_nomic_bert.NomicBertModel",
        config="configuration_hf_nomic_bert.NomicBertConfig",
        repositories=("nomic-ai/nomic-bert-2048",),
    ),
    KnownCode(
        model_type="new",
        model="modeling.NewModel",
        config="configuration.NewConfig",
        repositories=("Alibaba-NLP/new-impl",),
    ),
    KnownCode(
        model_type="gte",
        model="modeling_hf_alibaba_nlp_gte.GteModel",
        config="configuration_hf_alibaba_nlp_gte.GteConfig",
    ),
    KnownCode(
        model_type="llama_bidirec",
        model="llama_bidirectional_model.LlamaBidirectionalModel",
        config="llama_bidirectional_model.LlamaBidirectionalConfig",
    ),
    KnownCode(model_type="qwen2", model="modeling_qwen.Qwen2Model", config=""),
)


def in_native_words(config: Config) -> Config:
    """A config.json with the keys of the family in transformers, and without `auto_map`.

    Raises ModelError for unknown code, and for values that our network does not compute.
    """
    if config.get("auto_map"):
        known = next((code for code in KNOWN_CODE if code.is_named_by(config)), None)
        if known is None:
            raise ModelError(_unknown_code(config))
    translate = _translator(config)
    native = {name: value for name, value in config.items() if name != "auto_map"}
    return native if translate is None else translate(native)


def has_own_words(config: Config) -> bool:
    """True if transformers alone would misread the keys of a config.json."""
    return _translator(config) in (_nomic, _new)


def _translator(config: Config) -> Callable[[dict[str, Any]], Config] | None:
    has_code = bool(config.get("auto_map"))
    match config.get("model_type"):
        case "nomic_bert" if not _NOMIC_MARKS.isdisjoint(config):
            return _nomic
        case "new":
            return _new
        case "gte" if has_code:
            return _new
        case "qwen2" if has_code:
            return _qwen2
    return None


def _unknown_code(config: Config) -> str:
    classes = config["auto_map"]
    named = classes.get("AutoModel") if isinstance(classes, Mapping) else classes
    known = ", ".join(f"{code.model} ({code.model_type})" for code in KNOWN_CODE)
    return (
        f"the model needs remote code (config.json has auto_map with {named!r:.90} for model_type "
        f"{config.get('model_type')!r:.60}), which is never run; our own code computes {known}"
    )


#: nomic's key -> that of transformers
_NOMIC_KEYS = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "layer_norm_epsilon": "layer_norm_eps",
    "rotary_emb_base": "rope_theta",
}
#: Any of them shows the old spelling.
_NOMIC_MARKS = frozenset({"n_embd", "activation_function"})
_NOMIC_ACTIVATIONS = {"swiglu": "silu", "geglu": "gelu"}
#: A key -> the value where it is absent, and those that our network computes.
_NOMIC_VALUES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "prenorm": (False, (False,)),
    "parallel_block": (False, (False,)),
    "rotary_emb_fraction": (0.0, (1.0,)),
    "rotary_emb_interleaved": (False, (False,)),
    "rotary_emb_scale_base": (None, (None,)),
    "use_rms_norm": (False, (False, None)),
    "causal": (False, (False,)),
    "scale_attn_weights": (True, (True,)),
    "scale_attn_by_inverse_layer_idx": (False, (False,)),
    "num_experts": (0, (0, None)),
    "moe_every_n_layers": (0, (0, None)),
    "num_heads_kv": (None, (None,)),
}
_NEW_VALUES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "position_embedding_type": ("rope", ("rope",)),
    "layer_norm_type": ("layer_norm", ("layer_norm",)),
    "logn_attention_scale": (False, (False,)),
    "pack_qkv": (True, (True,)),
}
#: They choose between ways to compute the same.
_NEW_HARMLESS = ("unpad_inputs", "use_memory_efficient_attention", "logn_attention_clip1")


def _nomic(config: dict[str, Any]) -> Config:
    """GPT-2's names for what transformers calls by BERT's; files may have both, if they agree."""
    _require(config, _NOMIC_VALUES)
    for old, new in _NOMIC_KEYS.items():
        value = config.pop(old, None)
        if value is None:
            continue
        stated = config.get(new)
        if new == "rope_theta" and stated is None:
            stated = (config.get("rope_parameters") or {}).get("rope_theta")
        if stated not in (None, value):
            raise ModelError(f"config.json has {old} {value!r:.40} but {new} {stated!r:.40}")
        config[new] = value
    activation = config.pop("activation_function", "gelu")
    if activation not in _NOMIC_ACTIVATIONS:
        raise ModelError(
            f"config.json has activation_function {activation!r:.60}; supported are "
            + ", ".join(_NOMIC_ACTIVATIONS)
        )
    hidden_act = _NOMIC_ACTIVATIONS[activation]
    if config.get("hidden_act") not in (None, hidden_act):
        stated = config["hidden_act"]
        raise ModelError(
            f"config.json has activation_function {activation!r:.40} but hidden_act {stated!r:.40}"
        )
    config["hidden_act"] = hidden_act
    defaults = {"type_vocab_size": 2, "layer_norm_eps": 1e-5}
    if (positions := config.pop("n_positions", None)) is not None:
        defaults["max_position_embeddings"] = positions
    biases = {f"{name}_bias": True for name in ("qkv_proj", "mlp_fc1", "mlp_fc2")}
    return defaults | biases | config


def _new(config: dict[str, Any]) -> Config:
    """Alibaba's NewModel, the GTE of transformers; fixed NTK scaling is linear scaling of a larger theta."""
    _require(config, _NEW_VALUES)
    for name in _NEW_HARMLESS:
        config.pop(name, None)
    theta = config.setdefault("rope_theta", 10_000.0)
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    # Sizes that are no sizes are refused when the native keys are read.
    if config.get("rope_scaling") and type(hidden) is int and type(heads) is int and heads > 0:
        config["rope_parameters"] = _ntk(config.pop("rope_scaling"), theta, hidden // heads)
    return (
        {"type_vocab_size": 1, "layer_norm_eps": 1e-12, "hidden_act": "gelu"} | config | {"model_type": "gte"}
    )


def _ntk(scaling: Any, theta: float, head_dim: int) -> Config:
    if not isinstance(scaling, Mapping):
        raise ModelError(f"config.json has rope_scaling {scaling!r:.60}; an object is expected")
    kind, factor = scaling.get("type", scaling.get("rope_type")), scaling.get("factor")
    if (
        kind != "ntk"
        or scaling.get("mixed_b") is not None
        or not isinstance(factor, int | float)
        or factor < 1
    ):
        raise ModelError(
            f"config.json has rope_scaling {dict(scaling)!r:.120}; supported is the type ntk with a factor "
            "of at least 1 and without mixed_b"
        )
    return {"rope_type": "linear", "rope_theta": theta * factor, "factor": factor ** (2 / head_dim)}


def _qwen2(config: dict[str, Any]) -> Config:
    """The model's code is transformers' but for its mask, which the file must therefore state."""
    if not isinstance(config.get("is_causal"), bool):
        raise ModelError(
            "config.json names a Qwen2 with code of its own but has no is_causal; add it: false if tokens "
            "attend to later ones, as in gte-Qwen2, else true"
        )
    if config.get("use_sliding_window"):
        raise ModelError("config.json names a Qwen2 with code of its own and windows, which is not supported")
    return config


def _require(config: dict[str, Any], values: Mapping[str, tuple[Any, tuple[Any, ...]]]) -> None:
    """Remove keys whose values our network computes. Raises ModelError for others."""
    for name, (default, computed) in values.items():
        value = config.pop(name, default)
        if value not in computed:
            raise ModelError(
                f"config.json has {name} {value!r:.60}; supported is " + " or ".join(map(repr, computed))
            )
