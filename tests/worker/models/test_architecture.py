"""Reading a network's description from config.json."""

from typing import Any

import pytest

from producer.errors import ModelError
from worker.models.architecture import read_architecture

BERT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 66,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
}
DISTILBERT: dict[str, Any] = {
    "model_type": "distilbert",
    "vocab_size": 100,
    "dim": 48,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "activation": "gelu",
    "max_position_embeddings": 66,
}


def test_bert_is_read_from_its_own_names() -> None:
    """Sizes, activation and epsilon come from the config; positions count from 0."""
    found = read_architecture(BERT)
    assert (found.kind, found.vocab_size, found.hidden, found.layers) == ("bert", 100, 48, 2)
    assert (found.heads, found.kv_heads, found.head_dim, found.intermediate) == (4, 4, 12, 64)
    assert (found.activation, found.gated, found.norm, found.norm_eps) == ("gelu", False, "layer", 1e-12)
    assert (found.position_offset, found.max_tokens, found.token_types) == (0, 66, 2)


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
def test_the_roberta_family_counts_positions_behind_its_padding_row(model_type: str) -> None:
    """With padding id 1 the first token takes row 2, so two tokens fewer fit."""
    found = read_architecture(BERT | {"model_type": model_type, "pad_token_id": 1, "type_vocab_size": 1})
    assert (found.kind, found.position_offset, found.max_tokens, found.token_types) == ("roberta", 2, 64, 1)


def test_distilbert_is_read_from_its_own_names() -> None:
    """DistilBERT calls everything otherwise and has no token types."""
    found = read_architecture(DISTILBERT)
    assert (found.kind, found.hidden, found.layers, found.heads) == ("distilbert", 48, 2, 4)
    assert (found.intermediate, found.token_types, found.norm_eps) == (64, 0, 1e-12)


def test_mpnet_has_relative_buckets_and_row_two_whatever_its_padding_id() -> None:
    """MPNet's padding row is fixed at 1, and it has a bias by distance but no token types."""
    found = read_architecture(BERT | {"model_type": "mpnet", "pad_token_id": 0})
    assert (found.kind, found.position_offset, found.relative_buckets, found.token_types) == (
        "mpnet",
        2,
        32,
        0,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"), ("swish", "silu")],
)
def test_activations_are_told_apart(name: str, expected: str) -> None:
    """The exact GELU and its approximation are two activations."""
    assert read_architecture(BERT | {"hidden_act": name}).activation == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "t5"}, r"'t5'; supported are bert, roberta"),
        ({"model_type": ["bert"]}, "model_type"),
        ({"model_type": None}, "None"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "needs remote code"),
        ({"position_embedding_type": "relative_key"}, "'relative_key'"),
        ({"is_decoder": True}, "decoder"),
        ({"hidden_act": "mish"}, "'mish'"),
        ({"hidden_act": ["gelu"]}, "activation"),
        ({"hidden_size": 50}, "does not divide"),
        ({"num_attention_heads": 0}, "does not divide"),
        ({"vocab_size": "100"}, "vocab_size '100'"),
        ({"intermediate_size": None}, "intermediate_size None"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    """Unknown families, remote code, other positions, decoders and broken sizes say what was seen."""
    with pytest.raises(ModelError, match=said):
        read_architecture(BERT | change)
