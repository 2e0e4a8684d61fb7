"""Families with rotary positions, read from config.json."""

from typing import Any

import numpy as np
import pytest

from producer.errors import ModelError
from worker.models.architecture import read_architecture
from worker.models.rope import Rope, RopeScaling
from worker.models.weights import tensor_shapes

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "max_position_embeddings": 210,
}
LLAMA = SIZES | {"model_type": "llama", "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5}
MODERN = SIZES | {
    "model_type": "modernbert",
    "hidden_activation": "gelu",
    "norm_eps": 1e-5,
    "local_attention": 128,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160_000.0,
    "local_rope_theta": 10_000.0,
}

QWEN = LLAMA | {
    "model_type": "qwen2",
    "use_sliding_window": True,
    "sliding_window": 40,
    "max_window_layers": 3,
}
GEMMA = LLAMA | {
    "model_type": "gemma3_text",
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 20,
    "sliding_window": 41,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}


def test_a_llama_is_causal_unless_it_says_otherwise() -> None:
    """Grouped heads, an RMS norm before each branch, a gate; llama_bidirec looks both ways."""
    found = read_architecture(LLAMA)
    assert (found.kv_heads, found.norm, found.post_norm, found.gated) == (2, "rms", False, True)
    assert found.causal
    assert not read_architecture(LLAMA | {"model_type": "llama_bidirec"}).causal


def test_modernbert_alternates_windows_and_thetas() -> None:
    """Every third layer attends everywhere, the others 64 tokens to either side, each with its theta."""
    found = read_architecture(MODERN)
    assert found.windows == (0, 64, 64, 0)
    assert [rope.theta for rope in found.ropes] == [160_000.0, 10_000.0, 10_000.0, 160_000.0]


def test_both_spellings_of_rotary_positions_mean_the_same() -> None:
    """rope_theta of transformers 4 and rope_parameters of 5 give equal networks."""
    old = read_architecture(LLAMA | {"rope_theta": 5e5, "rope_scaling": None})
    new = read_architecture(LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}})
    assert old == new


def test_a_mistral_sees_as_many_tokens_as_its_window() -> None:
    """A window of 40 tokens holds the query and the 39 before it; without one there is no bound."""
    assert read_architecture(LLAMA | {"model_type": "mistral", "sliding_window": 40}).windows[0] == 39
    assert read_architecture(LLAMA | {"model_type": "mistral", "sliding_window": None}).windows[0] == 0


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_the_last_layers_of_a_qwen_may_have_windows(kind: str) -> None:
    """From the stated layer on, or where layer_types says; without use_sliding_window they have none."""
    config = QWEN | {"model_type": kind}
    assert read_architecture(config).windows == (0, 0, 0, 39)
    assert read_architecture(config | {"use_sliding_window": False}).windows == (0, 0, 0, 0)
    stated = config | {"layer_types": ["sliding_attention"] + ["full_attention"] * 3}
    assert read_architecture(stated).windows == (39, 0, 0, 0)


def test_a_gemma_divides_scores_by_what_it_states() -> None:
    """The root of query_pre_attn_scalar, not that of a head's size."""
    assert read_architecture(GEMMA).score_scale == pytest.approx(20**-0.5)
    assert read_architecture(LLAMA).score_scale == 0.25


def test_a_gemma_2_caps_its_scores_and_has_a_window_in_every_other_layer() -> None:
    """One theta for all layers, and no norms of heads."""
    config = {name: value for name, value in GEMMA.items() if name != "layer_types"} | {
        "model_type": "gemma2",
        "rope_theta": 500.0,
    }
    found = read_architecture(config)
    assert (found.score_cap, found.head_norm, found.branch_norm) == (50, False, True)
    assert found.windows == (40, 0, 40, 0)
    assert {rope.theta for rope in found.ropes} == {500.0}
    assert read_architecture(config | {"attn_logit_softcapping": None}).score_cap == 0


def test_a_gemmas_windows() -> None:
    """As wide as stated if it is causal; that is both sides together if it looks both ways."""
    assert read_architecture(GEMMA).windows == (40, 0, 40, 0)
    found = read_architecture(GEMMA | {"use_bidirectional_attention": True})
    assert (found.causal, found.windows) == (False, (20, 0, 20, 0))
    config = {name: value for name, value in GEMMA.items() if name != "layer_types"}
    assert read_architecture(config).windows == (40,) * 4
    assert read_architecture(config | {"sliding_window_pattern": 2}).windows == (40, 0, 40, 0)


def test_both_spellings_of_a_gemmas_frequencies_mean_the_same() -> None:
    """Those of layers with a window have a key of their own in transformers 4, and are not scaled."""
    scaling = {"rope_type": "linear", "factor": 8.0}
    old = read_architecture(
        GEMMA | {"rope_theta": 5e5, "rope_local_base_freq": 100.0, "rope_scaling": scaling}
    )
    new = read_architecture(
        GEMMA
        | {
            "rope_parameters": {
                "full_attention": scaling | {"rope_theta": 5e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            }
        }
    )
    assert old == new
    assert [rope.theta for rope in old.ropes] == [100.0, 5e5, 100.0, 5e5]
    assert [rope.theta for rope in read_architecture(GEMMA).ropes] == [1e4, 1e6, 1e4, 1e6]


def test_linear_scaling_divides_all_frequencies() -> None:
    """By its factor."""
    plain = read_architecture(LLAMA).ropes[0].inverse_frequencies(16)
    scaled = read_architecture(LLAMA | {"rope_scaling": {"type": "linear", "factor": 8.0}}).ropes[0]
    np.testing.assert_allclose(scaled.inverse_frequencies(16), plain / 8, rtol=1e-6)


def test_a_decoder_looks_both_ways_if_its_config_says_so() -> None:
    """With `is_causal` false, as transformers 5 reads it; a window then reaches to both sides."""
    for kind in ("llama", "mistral", "qwen2", "qwen3"):
        assert read_architecture(LLAMA | {"model_type": kind}).causal
        assert not read_architecture(LLAMA | {"model_type": kind, "is_causal": False}).causal
    found = read_architecture(LLAMA | {"model_type": "mistral", "sliding_window": 40, "is_causal": False})
    assert found.windows[0] == 40
    assert read_architecture(QWEN | {"is_causal": False}).windows[-1] == 40
    assert read_architecture(GEMMA | {"is_causal": False}).windows[0] == 41


def test_biases_are_asked_for_where_the_config_has_them() -> None:
    """attention_bias and mlp_bias name the layers."""
    assert read_architecture(LLAMA).biased == ()
    found = read_architecture(LLAMA | {"attention_bias": True, "mlp_bias": True})
    assert found.biased == ("qkv", "out", "up", "down")


def test_tensors_that_a_family_lacks_are_not_asked_for() -> None:
    """No position table, no biases and no first norm where the embedding norm serves."""
    shapes = tensor_shapes(read_architecture(MODERN))
    assert "embeddings.position" not in shapes
    assert not any(name.endswith(".bias") for name in shapes)
    assert "layers.0.attention_norm.weight" not in shapes
    assert "layers.1.attention_norm.weight" in shapes
    assert shapes["layers.0.up.weight"] == (320, 64)


def test_scaling_lowers_the_low_frequencies_only() -> None:
    """Fast frequencies are kept, slow ones divided by the factor, and the order stays."""
    plain = Rope(theta=1e4).inverse_frequencies(64)
    scaling = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192)
    scaled = Rope(theta=1e4, scaling=scaling).inverse_frequencies(64)
    np.testing.assert_array_equal(scaled[:8], plain[:8])
    np.testing.assert_allclose(scaled[-1], plain[-1] / 8, rtol=1e-6)
    assert (np.diff(scaled) < 0).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rotary positions of type 'yarn'"),
        ({"partial_rotary_factor": 0.5}, "only a part of each head"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "missing or invalid value: 'factor'"),
        ({"model_type": "mistral", "attention_bias": True}, "attention_bias True"),
        ({"model_type": "mistral", "sliding_window": 1}, "nothing but itself"),
        ({"is_causal": None}, "is_causal None; true or false is expected"),
        ({"mlp_bias": "false"}, "mlp_bias 'false'; true or false is expected"),
        ({"hidden_act": "elu"}, "activation 'elu'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers 0"),
        ({"num_attention_heads": "four"}, "num_attention_heads 'four'"),
        (QWEN | {"layer_types": ["sliding_attention"] * 4, "use_sliding_window": False}, "but no window"),
        (QWEN | {"layer_types": ["chunked_attention"] * 4}, "layer_types"),
        (QWEN | {"layer_types": ["full_attention"]}, "one of two kinds for each layer"),
        (QWEN | {"sliding_window": 1}, "nothing but itself"),
        ({"model_type": "mistral", "sliding_window": 0}, "nothing but itself"),
        (GEMMA | {"sliding_window": 1, "use_bidirectional_attention": True}, "nothing but itself"),
        (GEMMA | {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        (GEMMA | {"use_bidirectional_attention": True, "is_causal": False}, "remove is_causal"),
        ({"model_type": "gpt2"}, "supported are bert, .*, mistral"),
    ],
)
def test_what_is_not_computed_is_refused(change: dict[str, Any], reason: str) -> None:
    """Each is a ModelError that says what was seen."""
    with pytest.raises(ModelError, match=reason):
        read_architecture(LLAMA | change)


@pytest.mark.parametrize("kinds", [["full_attention"], ["full_attention"] * 3 + ["chunked_attention"]])
def test_every_layer_of_a_modernbert_is_of_a_known_kind(kinds: list[str]) -> None:
    """Too few, or one that is neither full nor sliding, are refused."""
    with pytest.raises(ModelError, match="layer_types"):
        read_architecture(MODERN | {"layer_types": kinds})


def test_a_missing_field_is_named() -> None:
    """A config.json without rms_norm_eps is refused by that name."""
    config = {name: value for name, value in LLAMA.items() if name != "rms_norm_eps"}
    with pytest.raises(ModelError, match="lacks 'rms_norm_eps'"):
        read_architecture(config)
