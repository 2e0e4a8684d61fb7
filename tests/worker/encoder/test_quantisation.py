"""fp8: scales per row and static scales, at which nothing can saturate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_networks import FAMILIES, random_network

from worker.models.model import read_model
from worker.models.weights import read_weights

torch = pytest.importorskip("torch")

from worker.encoder.loader import build_network  # noqa: E402 - torch may be missing
from worker.encoder.quantisation import (  # noqa: E402
    linear_bound,
    norm_bound,
    quantise_rows,
    quantise_tensor,
    rows_for,
    static_scale_for,
)
from worker.encoder.torch_ops import TorchOps, _normalise  # noqa: E402
from worker.models.network import Linear, Network, Norm  # noqa: E402
from worker.models.number_formats import FP8_MAX  # noqa: E402

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
WIDTH, OUT = 48, 32


def reader(bound: float | None) -> Any:
    """A layer that reads fp8: with a static scale for numbers up to `bound`, else with a scale per row."""
    static_scale = None if bound is None else static_scale_for(torch.tensor(bound))
    return Linear(weight=torch.zeros(1, WIDTH), bias=None, scale=torch.ones(()), static_scale=static_scale)


@pytest.mark.parametrize("bound", [None, 5000.0], ids=["per row", "static"])
def test_a_row_depends_on_nothing_but_itself(bound: float | None) -> None:
    """Its numbers are the same alone and next to a row a thousand times as large, and within fp8's step."""
    x = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [1000.0]])
    together = rows_for(reader(bound), x, torch.bfloat16)
    alone = rows_for(reader(bound), x[:1], torch.bfloat16)
    assert (together.quantised[:1].view(torch.uint8) == alone.quantised.view(torch.uint8)).all()
    assert together.scale.flatten()[0] == alone.scale.flatten()[0]
    scale = together.scale[..., None]
    step = 0.5**4 * x.abs() + scale * 0.5**9
    assert ((together.quantised.float() * scale - x).abs() <= step).all()


def test_the_largest_numbers_are_exact() -> None:
    """Of each row, or of the whole."""
    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
    quantised, scale = quantise_rows(x)
    assert (quantised.float().abs().amax(1) == FP8_MAX).all()
    assert torch.allclose(quantised.float().abs().amax(1) * scale, x.abs().amax(1))
    quantised, whole = quantise_tensor(x)
    assert whole.shape == ()
    assert torch.allclose(quantised.float().abs().amax() * whole, x.abs().amax())


@given(st.floats(1e-6, 1e6))
def test_a_static_scale_is_the_smallest_power_of_two_that_suffices(bound: float) -> None:
    """An eighth more than the bound still fits; half the scale would not suffice."""
    static_scale = static_scale_for(torch.tensor(bound))
    assert float(static_scale.value * static_scale.inverse) == 1.0
    assert bound * 1.125 <= FP8_MAX * float(static_scale.value) * (1 + 1e-6)
    assert bound * 1.125 > FP8_MAX * float(static_scale.value) / 2 * (1 - 1e-6)


@pytest.mark.parametrize("bound", [0.0, float("inf"), float("nan")])
def test_an_infinite_or_zero_bound_has_a_static_scale(bound: float) -> None:
    """Such weights load; verification of the vectors refuses them."""
    static_scale = static_scale_for(torch.tensor(bound))
    assert torch.isfinite(static_scale.value)
    assert 0 < float(static_scale.value * static_scale.inverse) <= 1


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.booleans(), st.booleans())
def test_no_output_exceeds_the_bound(seed: int, rms: bool, biased: bool) -> None:
    """Of norms and of linear layers after them, for rows in the direction of the largest output."""
    generator = torch.Generator().manual_seed(seed)
    random: Callable[..., Any] = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    weight, bias = random(OUT, WIDTH), random(OUT) if biased else None
    norm = Norm(weight=random(WIDTH), bias=random(WIDTH) if biased and not rms else None, eps=1e-12, rms=rms)
    worst = torch.cat([weight * norm.weight, torch.eye(WIDTH)])
    normalised = _normalise(torch.cat([worst, -worst, random(64, WIDTH)]) * 10 ** random(1), norm)
    assert normalised.abs().max() <= norm_bound(norm) * (1 + 1e-5)
    out = torch.nn.functional.linear(normalised, weight, bias)
    assert out.abs().max() <= linear_bound(weight, bias, norm) * (1 + 1e-5)
    if rms and not biased:
        assert torch.isclose(out.abs().max(), linear_bound(weight, bias, norm), rtol=1e-3)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_which_layers_have_static_scales(tmp_path: Path, family: str) -> None:
    """Those around an activation without a gate; a layer kept in 16 bit has none."""
    model = random_model(tmp_path, family)
    for layer in built(model, "fp8", keep_16bit=["layers.1.down"]).layers[:1]:
        assert layer.qkv.quantised
        assert layer.qkv.static_scale is None
        assert [part.static_scale is not None for part in (layer.up, layer.down)] == 2 * [family == "bert"]
        assert not layer.out.quantised
    kept = built(model, "fp8", keep_16bit=["layers.1.down"]).layers[1].down
    assert kept.static_scale is None
    assert not kept.quantised


@pytest.mark.parametrize("kept", [[], ["layers.0.up"], ["layers.0.down"]], ids=["none", "up", "down"])
def test_layers_agree_with_exact_ones_in_any_mix(tmp_path: Path, kept: list[str]) -> None:
    """Up and down, each in fp8 or 16 bit, within fp8's loss."""
    model = random_model(tmp_path, "bert")
    exact, mixed = built(model, "fp32"), built(model, "fp8", keep_16bit=kept)
    x = torch.randn(64, exact.embeddings.words.shape[1], generator=torch.Generator().manual_seed(2))
    found, expected = (through_first(network, x) for network in (mixed, exact))
    assert torch.nn.functional.cosine_similarity(found, expected, dim=1).min() > 0.997


def through_first(network: Network, x: Any) -> Any:
    """The first layer's part after attention."""
    ops, layer = TorchOps(), network.layers[0]
    x = x.to(network.embeddings.words.dtype)
    rows = ops.norm(x, layer.attention_norm, reader=layer.up)
    inner = ops.up(rows, layer.up, network.activation, gated=network.gated, reader=layer.down)
    return ops.add_norm(
        inner, layer.down, rows.values, layer.output_norm, keep_sum=False, reader=None
    ).values.float()


def random_model(directory: Path, family: str) -> Any:
    name, options = FAMILIES[family]
    random_network(name, options, directory)
    return read_model(directory)


def built(model: Any, precision: str, **options: Any) -> Network:
    return build_network(
        model.architecture,
        read_weights(model.transformer, model.architecture),
        device=torch.device("cpu"),
        precision=precision,
        max_text_tokens=64,
        **options,
    )
