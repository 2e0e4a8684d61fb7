"""Both encoders, PyTorch and ONNX, against transformers in fp32, for every family, with random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.backends import load_backend
from worker.backends.contract import Tokens
from worker.model import read_model

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(300),
    # Of the libraries we compare ourselves with.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "max_position_embeddings": 210,
    # Ten times the usual, so that attention and activations leave their linear beginnings.
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
}


def random_rows(longest: int) -> list[list[int]]:
    random = np.random.default_rng(11)
    lengths = [1, longest, *random.integers(1, longest + 1, 10).tolist()]
    return [random.integers(3, 300, length).tolist() for length in lengths]


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


def embedded(directory: Path, rows: list[list[int]], precision: str = "fp32", by: str = "torch") -> Any:
    backend = load_backend(by, read_model(directory), device="cpu", precision=precision)
    vectors = backend.collect(backend.launch(flat(rows)))
    backend.close()
    return vectors


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_random_network_gives_the_vectors_of_transformers(
    tmp_path: Path, family: str, backend: str
) -> None:
    """Mean-pooled hidden states agree on every text, from one token to the longest."""
    network = random_network(*FAMILIES[family], tmp_path)
    rows = random_rows(200)
    expected = [token_vectors(network, row).mean(axis=0) for row in rows]
    found = embedded(tmp_path, rows, by=backend)
    assert worst_cosine(found, expected) > 0.999999
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_bidirectional_llama_sees_both_ways(tmp_path: Path, backend: str) -> None:
    """The same weights under the model_type llama_bidirec attend without the causal mask."""
    import torch

    network = random_network("Llama", GROUPED, tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"model_type": "llama"', '"model_type": "llama_bidirec"'))
    rows = random_rows(200)
    expected = [
        token_vectors(network, row, mask=torch.zeros(1, 1, len(row), len(row))).mean(axis=0) for row in rows
    ]
    assert worst_cosine(embedded(tmp_path, rows, by=backend), expected) > 0.999999


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("family", ["bert", "mpnet", "gte", "modernbert", "qwen3"])
def test_16_bit_stays_near_fp32(tmp_path: Path, family: str, precision: str) -> None:
    """With weights as they are initialised, every text keeps a cosine of 0.9999 to fp32."""
    name, options = FAMILIES[family]
    random_network(name, options | {"initializer_range": 0.02}, tmp_path)
    rows = random_rows(200)
    assert worst_cosine(embedded(tmp_path, rows, precision), embedded(tmp_path, rows)) > 0.9999


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("pooling", ["cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens"])
@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_every_pooling_takes_what_it_says(tmp_path: Path, family: str, pooling: str, backend: str) -> None:
    """CLS and last token, whose last layer is computed for that row alone, and the others agree."""
    network = random_network(*FAMILIES[family], tmp_path)
    (tmp_path / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},'
        ' {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},'
        ' {"idx": 2, "name": "2", "path": "2", "type": "sentence_transformers.models.Normalize"}]'
    )
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(f'{{"pooling_mode": "{pooling}"}}')
    take = {
        "cls": lambda x: x[0],
        "lasttoken": lambda x: x[-1],
        "max": lambda x: x.max(axis=0),
        "mean": lambda x: x.mean(axis=0),
        "mean_sqrt_len_tokens": lambda x: x.sum(axis=0) / len(x) ** 0.5,
    }[pooling]
    rows = random_rows(200)
    expected = np.array([take(token_vectors(network, row)) for row in rows])
    found = embedded(tmp_path, rows, by=backend)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert worst_cosine(found, expected) > 0.999999
