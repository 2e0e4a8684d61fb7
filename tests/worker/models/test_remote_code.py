"""Models that name code of their own: known networks are ours, in their authors' words; no code is run."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from support.remote_configs import (
    GTE_CODE,
    LLAMA_CODE,
    NEW_CODE,
    NOMIC_CODE,
    QWEN2_CODE,
    new,
    nomic,
    nomic_in_both,
)

from producer.errors import ModelError
from worker.models.architecture import is_known_family, read_architecture

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "max_position_embeddings": 210,
}
BERT = SIZES | {"layer_norm_eps": 1e-12, "type_vocab_size": 2}
NOMIC = BERT | {"model_type": "nomic_bert", "hidden_act": "silu"}
GTE = BERT | {"model_type": "gte", "hidden_act": "gelu"}
DECODER = SIZES | {"num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-6}
NOMIC_MODEL = "modeling_hf_nomic_bert.NomicBertModel"
QWEN2 = DECODER | {"model_type": "qwen2", "auto_map": QWEN2_CODE, "is_causal": False}


def nomics_switches(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes by the names of transformers only, and the switches of the old code."""
    old = ("n_embd", "n_head", "n_inner", "n_layer", "n_positions", "layer_norm_epsilon", "rotary_emb_base")
    return {name: value for name, value in nomic_in_both(saved).items() if name not in old}


@pytest.mark.parametrize("spelling", [nomic, nomic_in_both, nomics_switches], ids=["old", "both", "switches"])
def test_nomic_in_any_spelling_is_the_network_of_transformers(
    spelling: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> None:
    """GPT-2's keys, those beside BERT's, and BERT's beside the old switches."""
    assert read_architecture(spelling(NOMIC)) == read_architecture(NOMIC)


def test_new_is_the_gte_of_transformers_with_ntk_scaled_frequencies() -> None:
    """theta times the factor, then every frequency divided by the factor to the power of 2 / head size."""
    found = read_architecture(new(GTE))
    plain = read_architecture(GTE | {"rope_theta": 500})
    assert found.kind == plain.kind
    assert found.ropes != plain.ropes
    expected = 1 / 1000.0 ** (np.arange(0, 16, 2) / 16) / 2.0 ** (2 / 16)
    np.testing.assert_allclose(found.ropes[0].inverse_frequencies(16), expected, rtol=1e-6)


def test_new_without_scaling_has_a_default_theta_of_its_own() -> None:
    """10,000, where transformers has 160,000."""
    config = {name: value for name, value in new(GTE).items() if name not in ("rope_scaling", "rope_theta")}
    assert read_architecture(config).ropes[0].theta == 10_000
    assert read_architecture(GTE).ropes[0].theta == 160_000


@pytest.mark.parametrize(
    "config",
    [
        nomic(NOMIC) | {"auto_map": {"AutoModel": NOMIC_MODEL}},
        new(GTE) | {"auto_map": {"AutoModel": "modeling.NewModel", "AutoConfig": "configuration.NewConfig"}},
        new(GTE) | {"model_type": "gte", "auto_map": GTE_CODE},
        DECODER | {"model_type": "llama_bidirec", "auto_map": LLAMA_CODE},
        QWEN2,
    ],
    ids=["nomic", "new", "gte", "llama", "qwen2"],
)
def test_known_code_is_recognised_in_the_models_own_repository_too(config: dict[str, Any]) -> None:
    """As copies and fine-tunes have it."""
    assert is_known_family(config)
    read_architecture(config)


@pytest.mark.parametrize(
    "config",
    [
        nomic(NOMIC)
        | {"auto_map": NOMIC_CODE | {"AutoModel": "somebody/else--modeling_hf_nomic_bert.NomicBertModel"}},
        nomic(NOMIC) | {"auto_map": NOMIC_CODE | {"AutoModel": "modeling_hf_nomic_bert.OtherModel"}},
        nomic(NOMIC) | {"auto_map": NOMIC_CODE | {"AutoConfig": "other.NomicBertConfig"}},
        nomic(NOMIC) | {"auto_map": NEW_CODE},
        new(GTE) | {"auto_map": {"AutoModelForMaskedLM": NEW_CODE["AutoModelForMaskedLM"]}},
        new(GTE) | {"auto_map": "modeling.NewModel"},
        DECODER | {"model_type": "llama", "auto_map": LLAMA_CODE},
        DECODER | {"model_type": "qwen3", "auto_map": QWEN2_CODE},
        QWEN2 | {"auto_map": {"AutoModel": "modeling_qwen2.Qwen2Model"}},
    ],
    ids=["repository", "class", "config", "other", "no model", "text", "llama", "qwen3", "module"],
)
def test_any_other_code_is_refused_by_its_name(config: dict[str, Any]) -> None:
    """And by the name of the family that it is not."""
    with pytest.raises(
        ModelError, match=r"needs remote code .* never run; our own code computes modeling_hf"
    ):
        read_architecture(config)


@pytest.mark.parametrize(
    ("config", "change", "reason"),
    [
        (nomic(NOMIC), {"prenorm": True}, "prenorm True"),
        (nomic(NOMIC), {"parallel_block": True}, "parallel_block True"),
        (nomic(NOMIC), {"rotary_emb_fraction": 0.5}, r"rotary_emb_fraction 0\.5"),
        (nomic(NOMIC), {"rotary_emb_interleaved": True}, "rotary_emb_interleaved True"),
        (nomic(NOMIC), {"rotary_emb_scale_base": 512}, "rotary_emb_scale_base 512"),
        (nomic(NOMIC), {"use_rms_norm": True}, "use_rms_norm True"),
        (nomic(NOMIC), {"causal": True}, "causal True"),
        (nomic(NOMIC), {"num_experts": 8}, "num_experts 8"),
        (nomic(NOMIC), {"activation_function": "gelu"}, "activation_function 'gelu'"),
        (nomic(NOMIC), {"hidden_size": 128}, "n_embd 64 but hidden_size 128"),
        (nomic_in_both(NOMIC), {"rope_parameters": {"rope_theta": 1e4}}, "emb_base 1000 but rope_theta"),
        (new(GTE), {"position_embedding_type": "absolute"}, "position_embedding_type 'absolute'"),
        (new(GTE), {"layer_norm_type": "rms_norm"}, "layer_norm_type 'rms_norm'"),
        (new(GTE), {"logn_attention_scale": True}, "logn_attention_scale True"),
        (new(GTE), {"pack_qkv": False}, "pack_qkv False"),
        (new(GTE), {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "supported is the type ntk"),
        (new(GTE), {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.7}}, "without mixed_b"),
        (new(GTE), {"num_attention_heads": 0}, "num_attention_heads 0"),
        (QWEN2, {"is_causal": None}, "has no is_causal"),
        (QWEN2, {"use_sliding_window": True}, "windows"),
    ],
)  # fmt: skip
def test_what_our_network_does_not_compute_is_refused(
    config: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    """Every switch of that code is read."""
    with pytest.raises(ModelError, match=reason):
        read_architecture(config | change)


def test_nomics_switches_that_our_network_has_are_followed() -> None:
    """Biases, the activation of the gate, and the length up to which frequencies are fixed."""
    found = read_architecture(
        nomic(NOMIC)
        | {
            "qkv_proj_bias": True,
            "mlp_fc2_bias": True,
            "activation_function": "geglu",
            "rotary_scaling_factor": 2,
        }
    )
    assert found.biased == ("qkv", "out", "down")
    assert found.activation == "gelu"
    assert (found.max_tokens, found.open_ended) == (2048, False)


def test_a_qwen2_with_code_looks_the_way_it_says() -> None:
    """Both ways as gte-Qwen2, or back only."""
    assert not read_architecture(QWEN2).causal
    assert read_architecture(QWEN2 | {"is_causal": True}).causal
