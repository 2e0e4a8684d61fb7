"""Networks of every family with random weights, built by transformers and saved for us to read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.contract import Tokens

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "max_position_embeddings": 210,
    # Ten times the usual, so that attention and activations leave their linear range.
    "initializer_range": 0.2,
}
DISTIL_SIZES = {
    "vocab_size": 300,
    "dim": 64,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 160,
    "max_position_embeddings": 210,
    "initializer_range": 0.2,
}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
GROUPED = SIZES | {"num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
WINDOWS = {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 2}
GEMMA = GROUPED | {
    "head_dim": 32,
    "query_pre_attn_scalar": 20,
    "sliding_window": 41,
    "sliding_window_pattern": 3,
    "initializer_range": 0.1,
}
GEMMA2 = {name: value for name, value in GEMMA.items() if name != "sliding_window_pattern"} | {
    "attn_logit_softcapping": 3.0,
}
GEMMA_ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 500.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZES),
    "bert, relu": ("Bert", SIZES | {"hidden_act": "relu"}),
    "bert, tanh": ("Bert", SIZES | {"hidden_act": "gelu_new"}),
    "roberta": ("Roberta", SIZES | {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "xlm-roberta": ("XLMRoberta", SIZES | {"pad_token_id": 1, "type_vocab_size": 1}),
    "distilbert": ("DistilBert", DISTIL_SIZES),
    "mpnet": ("MPNet", SIZES | {"pad_token_id": 1}),
    "nomic": ("NomicBert", SIZES),
    "gte": ("Gte", SIZES),
    "modernbert": ("ModernBert", SIZES | IDS | {"local_attention": 32}),
    "modernbert, biases": (
        "ModernBert",
        SIZES | IDS | {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "local_attention": 32},
    ),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 32}),
    "llama": ("Llama", GROUPED),
    "llama, stretched": ("Llama", GROUPED | {"rope_parameters": LLAMA3}),
    "mistral": ("Mistral", GROUPED | {"sliding_window": 40}),
    "qwen3, both ways": ("Qwen3", GROUPED | {"head_dim": 32, "is_causal": False}),
    "llama, both ways": ("Llama", GROUPED | {"is_causal": False}),
    "mistral, both ways": ("Mistral", GROUPED | {"sliding_window": 40, "is_causal": False}),
    "qwen3, biases": ("Qwen3", GROUPED | {"head_dim": 32, "attention_bias": True}),
    "llama, biases": ("Llama", GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("Qwen2", GROUPED),
    "qwen2, both ways": ("Qwen2", GROUPED | {"is_causal": False}),
    "qwen2, windows": ("Qwen2", GROUPED | WINDOWS),
    "gemma2": ("Gemma2", GEMMA2),
    "gemma3": ("Gemma3Text", GEMMA | {"layer_types": ["sliding_attention", "full_attention"] * 2}),
    "gemma3, both ways": ("Gemma3Text", GEMMA | {"use_bidirectional_attention": True}),
    "gemma3, stretched": ("Gemma3Text", GEMMA | {"rope_parameters": GEMMA_ROPES}),
}


def random_rows(longest: int) -> list[list[int]]:
    """Random ids; the last row has the special tokens too, padding twice in a row and at the end."""
    random = np.random.default_rng(11)
    lengths = [1, longest, *random.integers(1, longest + 1, 10).tolist()]
    rows = [random.integers(3, 300, length).tolist() for length in lengths]
    return [*rows, [0, 77, 1, 1, 54, 2, 0, 0, 120, 1]]


def flat(rows: list[list[int]]) -> Tokens:
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    return Tokens(np.concatenate(rows).astype(np.int32), offsets)


def random_network(name: str, options: dict[str, Any], directory: Path) -> Any:
    """A network of that family, biases and norms random too, saved in `directory`."""
    import torch
    import transformers

    if not hasattr(transformers, f"{name}Model"):
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    torch.manual_seed(1)
    network = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**options)).eval()
    with torch.no_grad():
        for tensor in network.parameters():
            if tensor.ndim == 1:
                tensor.add_(torch.randn_like(tensor), alpha=0.2)
    network.save_pretrained(directory)
    return network


def token_vectors(network: Any, row: list[int], *, mask: Any = None) -> Any:
    import torch

    with torch.no_grad():
        mask = torch.ones(1, len(row)) if mask is None else mask
        return network(torch.tensor([row]), attention_mask=mask)[0][0].numpy()


def worst_cosine(left: Any, right: Any) -> float:
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / norms).min())
