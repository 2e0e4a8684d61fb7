"""The PyTorch and ONNX encoders against transformers in fp32, for every family, with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_networks import (
    FAMILIES,
    GROUPED,
    flat,
    random_network,
    random_rows,
    token_vectors,
    worst_cosine,
)

from worker.backends import LoadOptions, load_backend
from worker.models.model import read_model

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(300),
    # Raised by the libraries we compare with.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def embedded(directory: Path, rows: list[list[int]], precision: str = "fp32", by: str = "torch") -> Any:
    backend = load_backend(by, read_model(directory), LoadOptions(device="cpu", precision=precision))
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
    """With weights as models initialise them, every text keeps a cosine of 0.9999 to fp32."""
    name, options = FAMILIES[family]
    random_network(name, options | {"initializer_range": 0.02}, tmp_path)
    rows = random_rows(200)
    assert worst_cosine(embedded(tmp_path, rows, precision), embedded(tmp_path, rows)) > 0.9999


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize(
    "pooling", ["cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean"]
)
@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_every_pooling(tmp_path: Path, family: str, pooling: str, backend: str) -> None:
    """All agree, CLS and last token among them, whose last layer computes a single row per text."""
    network = random_network(*FAMILIES[family], tmp_path)
    (tmp_path / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},'
        ' {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},'
        ' {"idx": 2, "name": "2", "path": "2", "type": "sentence_transformers.models.Normalize"}]'
    )
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(f'{{"pooling_mode": "{pooling}"}}')
    takes: dict[str, Callable[[Any], Any]] = {
        "cls": lambda x: x[0],
        "lasttoken": lambda x: x[-1],
        "max": lambda x: x.max(axis=0),
        "mean": lambda x: x.mean(axis=0),
        "mean_sqrt_len_tokens": lambda x: x.sum(axis=0) / len(x) ** 0.5,
        "weightedmean": lambda x: np.average(x, axis=0, weights=np.arange(1, len(x) + 1)),
    }
    take = takes[pooling]
    rows = random_rows(200)
    expected = np.array([take(token_vectors(network, row)) for row in rows])
    found = embedded(tmp_path, rows, by=backend)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert worst_cosine(found, expected) > 0.999999
