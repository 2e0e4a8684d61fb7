"""Tanh GELU: the next bias corrects its mean error."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.random_networks import FAMILIES, flat, random_network, random_rows

from worker.models.model import read_model
from worker.models.weights import read_weights

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def test_the_mean_error_is_that_of_a_sample() -> None:
    """100,000 normalised random rows give the same averages as the integral, for any bias and scale."""
    from worker.encoder.gelu_correction import mean_tanh_error
    from worker.models.network import Norm

    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(40, 64, generator=generator) * torch.linspace(0.01, 0.5, 40)[:, None]
    bias, shift, scale = (torch.randn(size, generator=generator) for size in (40, 64, 64))
    normalised = torch.nn.functional.layer_norm(
        torch.randn(100_000, 64, generator=generator), (64,), scale, shift
    )
    x = normalised @ weight.T + bias
    gelu = torch.nn.functional.gelu
    sampled = (gelu(x.double(), approximate="tanh") - gelu(x.double())).mean(0)
    found = mean_tanh_error(weight, bias, Norm(weight=scale, bias=shift, eps=1e-12))
    assert sampled.abs().max() > 1e-4
    torch.testing.assert_close(found.double(), sampled, rtol=0.05, atol=2e-6)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_vectors_come_nearer_to_exact_gelu(tmp_path: Path, family: str) -> None:
    """Their mean distance to exact GELU's vectors is smaller than that of uncorrected tanh GELU."""
    name, options = FAMILIES[family]
    random_network(name, options | {"initializer_range": 0.1}, tmp_path)
    rows = random_rows(200)
    exact = vectors(tmp_path)(rows)
    config = tmp_path / "config.json"
    corrected = vectors(tmp_path, tanh_gelu=True)(rows)
    config.write_text(config.read_text().replace('"hidden_act": "gelu"', '"hidden_act": "gelu_new"'))
    uncorrected = vectors(tmp_path, tanh_gelu=True)(rows)
    left, before = ((found - exact).norm(dim=1).mean() for found in (corrected, uncorrected))
    assert 0 < left < 0.85 * before


@pytest.mark.parametrize("family", ["modernbert", "gte"])
def test_gated_networks_keep_exact_gelu(tmp_path: Path, family: str) -> None:
    """Their matmuls cannot compute it in the epilogue, so the tanh form would gain nothing."""
    random_network(*FAMILIES[family], tmp_path)
    rows = random_rows(200)
    assert torch.equal(vectors(tmp_path, tanh_gelu=True)(rows), vectors(tmp_path)(rows))


def vectors(directory: Path, **options: bool) -> Callable[[list[list[int]]], Any]:
    """Rows of ids to vectors on the CPU in fp32."""
    encoder = importlib.import_module("worker.encoder.encoder")
    torch_ops = importlib.import_module("worker.encoder.torch_ops")
    model = read_model(directory)
    built = encoder.build_encoder(
        model,
        read_weights(model.transformer, model.architecture),
        ops=torch_ops.TorchOps(),
        device=torch.device("cpu"),
        precision="fp32",
        **options,
    )

    def embed(rows: list[list[int]]) -> Any:
        tokens = flat(rows)
        return built.vectors(torch.from_numpy(tokens.ids), torch.from_numpy(tokens.offsets))

    return embed
