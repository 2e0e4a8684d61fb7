"""Every key of config.json that may change a vector, flipped: followed as by transformers, or refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_networks import FAMILIES, flat, random_network, token_vectors, worst_cosine

from producer.errors import BackendError, ModelError
from worker.backends import LoadOptions, load_backend
from worker.models.keys.families import FAMILY_KEYS
from worker.models.model import read_model

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(600),
    # Of the library we compare ourselves with.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

ROPES: list[Any] = [
    {"rope_type": "default", "rope_theta": 500.0},
    {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0},
    {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0},
    {"rope_type": "yarn", "factor": 2.0, "rope_theta": 10_000.0},
    {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    {"full_attention": {"rope_type": "default", "rope_theta": 900.0}},
    {"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 900.0}},
]
#: Key -> values to which it is set, in every family, whether it knows the key or not.
FLIPS: dict[str, list[Any]] = {
    "is_causal": [True, False, None],
    "is_decoder": [True],
    "add_cross_attention": [True],
    "use_bidirectional_attention": [True, False],
    "position_embedding_type": ["absolute", "relative_key", "relative_key_query"],
    "hidden_act": ["gelu", "gelu_new", "relu", "silu", "quick_gelu", "gelu_10"],
    "hidden_activation": ["gelu", "gelu_pytorch_tanh", "relu", "silu", "quick_gelu"],
    "activation": ["gelu", "gelu_new", "relu"],
    "layer_norm_eps": [0.5],
    "rms_norm_eps": [0.5],
    "norm_eps": [0.5],
    "norm_bias": [True, False],
    "attention_bias": [True, False],
    "mlp_bias": [True, False],
    "num_attention_heads": [2],
    "n_heads": [2],
    "num_key_value_heads": [4, 2, 1],
    "num_hidden_layers": [1],
    "n_layers": [1],
    "head_dim": [8, 16, 32],
    "embedding_size": [32],
    "type_vocab_size": [1],
    "pad_token_id": [0, 1, 2, None],
    "relative_attention_num_buckets": [16],
    "sinusoidal_pos_embds": [True],
    "rope_theta": [500.0],
    "rope_scaling": ROPES,
    "rope_parameters": ROPES,
    "partial_rotary_factor": [0.5, 1.0],
    "global_rope_theta": [500.0],
    "local_rope_theta": [500.0],
    "rotary_emb_base": [500.0],
    "sliding_window": [None, 1, 8],
    "use_sliding_window": [True],
    "max_window_layers": [0],
    "layer_types": [["full_attention"] * 3, ["sliding_attention"] * 3],
    "local_attention": [1, 8],
    "global_attn_every_n_layers": [1, 2],
    "chunk_size_feed_forward": [4],
    "attention_multiplier": [0.5],
    "embedding_multiplier": [2.0],
    "residual_multiplier": [0.5],
    "query_pre_attn_scalar": [64],
    "attn_logit_softcapping": [2.0],
    "final_logit_softcapping": [2.0],
    "rope_local_base_freq": [500.0],
    "sliding_window_pattern": [1, 2],
    "_sliding_window_pattern": [2],
    "scale_attn_weights": [False],
    "prenorm": [True],
    "pretraining_tp": [2],
    "pruned_heads": [{"0": [1]}],
    "pooling": ["cls"],
    "hidden_dropout_prob": [0.5],
    "attention_probs_dropout_prob": [0.5],
    "attention_dropout": [0.5],
    "dropout": [0.5],
    "classifier_pooling": ["mean"],
    "initializer_range": [0.5],
    "tie_word_embeddings": [True, False],
    "use_cache": [True, False],
    "num_labels": [5],
    "id2label": [{"0": "a", "1": "b", "2": "c"}],
    "output_hidden_states": [True],
    "is_encoder_decoder": [True],
    "deterministic_flash_attn": [True],
    "per_layer_config": [{"0": {"num_attention_heads": 2}}],
}
ROWS = [list(range(3, 43)), [5, 9, 12, 77], list(range(120, 100, -1))]


def ours(directory: Path) -> np.ndarray | None:
    """The mean token vectors, None if the model is refused."""
    try:
        backend = load_backend("torch", read_model(directory), LoadOptions(device="cpu", precision="fp32"))
    except (ModelError, BackendError):
        return None
    found = backend.collect(backend.launch(flat(ROWS)))
    backend.close()
    return found


def theirs(directory: Path) -> np.ndarray | None:
    """The same by transformers, None if it cannot load or run the network."""
    import transformers

    try:
        network, report = transformers.AutoModel.from_pretrained(directory, output_loading_info=True)
        if any(not name.startswith("pooler.") for name in report["missing_keys"]):
            return None
        return np.array([token_vectors(network.eval(), row).mean(axis=0) for row in ROWS])
    except Exception:  # whatever its reason
        return None


@pytest.mark.parametrize(
    "family",
    [
        "bert",
        "roberta",
        "distilbert",
        "mpnet",
        "nomic",
        "gte",
        "modernbert",
        "qwen2",
        "qwen2, windows",
        "qwen3",
        "gemma2",
        "gemma3, stretched",
        "gemma3, both ways",
        "llama",
        "llama, stretched",
        "mistral",
    ],
)
def test_a_flipped_key_is_followed_or_refused(tmp_path: Path, family: str) -> None:
    """Vectors are those of transformers for the same config.json, whatever its keys say."""
    name, options = FAMILIES[family]
    layers = "n_layers" if "n_layers" in options else "num_hidden_layers"
    random_network(name, options | {layers: 3}, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    base = ours(tmp_path)
    assert base is not None
    harmless = FAMILY_KEYS[config["model_type"]].harmless
    wrong, followed, refused = [], 0, 0
    for key, values in FLIPS.items():
        for value in values:
            path.write_text(json.dumps(config | {key: value}))
            found = ours(tmp_path)
            if found is None:
                refused += 1
                if key in harmless:
                    wrong.append(f"{key}={value!r}: refused, though harmless")
                continue
            expected = theirs(tmp_path)
            followed += 1
            if expected is None and value is not None:
                wrong.append(f"{key}={value!r}: served, though transformers refuses it")
            elif expected is not None and (cosine := worst_cosine(found, expected)) < 0.99999:
                wrong.append(f"{key}={value!r}: cosine {cosine:.5f}")
            elif key in harmless and not np.array_equal(found, base):
                wrong.append(f"{key}={value!r}: changes vectors, though harmless")
    assert not wrong, "\n".join(wrong)
    assert min(followed, refused) > 10
