"""fp8: rows with scales of their own and in a unit, and units in which nothing can saturate."""

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
from worker.encoder.network import Linear, Network, Norm  # noqa: E402
from worker.encoder.quantisation import (  # noqa: E402
    LARGEST,
    linear_bound,
    norm_bound,
    quantise_rows,
    quantise_whole,
    rows_for,
    static_scale_of,
)
from worker.encoder.torch_ops import TorchOps, _norm  # noqa: E402

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
WIDTH, OUT = 48, 32


def reader(reach: float | None) -> Any:
    """A layer that reads fp8: in a unit for numbers of up to `reach`, else with a scale a row."""
    unit = None if reach is None else static_scale_of(torch.tensor(reach))
    return Linear(weight=torch.zeros(1, WIDTH), bias=None, scale=torch.ones(()), unit=unit)


@pytest.mark.parametrize("reach", [None, 5000.0], ids=["rows", "unit"])
def test_a_row_depends_on_nothing_but_itself(reach: float | None) -> None:
    """Its numbers are the same alone and beside a row a thousand times as large, and within fp8's step."""
    x = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [1000.0]])
    together = rows_for(reader(reach), x, torch.bfloat16)
    alone = rows_for(reader(reach), x[:1], torch.bfloat16)
    assert (together.quantised[:1].view(torch.uint8) == alone.quantised.view(torch.uint8)).all()
    assert together.scale.flatten()[0] == alone.scale.flatten()[0]
    scale = together.scale[..., None]
    step = 0.5**4 * x.abs() + scale * 0.5**9
    assert ((together.quantised.float() * scale - x).abs() <= step).all()


def test_the_largest_numbers_are_exact() -> None:
    """Of each row, or of the whole."""
    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
    quantised, scale = quantise_rows(x)
    assert (quantised.float().abs().amax(1) == LARGEST).all()
    assert torch.allclose(quantised.float().abs().amax(1) * scale, x.abs().amax(1))
    quantised, whole = quantise_whole(x)
    assert whole.shape == ()
    assert torch.allclose(quantised.float().abs().amax() * whole, x.abs().amax())


@given(st.floats(1e-6, 1e6))
def test_a_unit_is_the_smallest_power_of_two_that_does(reach: float) -> None:
    """What is an eighth larger than the reach still fits; half the unit would not do."""
    unit = static_scale_of(torch.tensor(reach))
    assert float(unit.size * unit.inverse) == 1.0
    assert reach * 1.125 <= LARGEST * float(unit.size) * (1 + 1e-6)
    assert reach * 1.125 > LARGEST * float(unit.size) / 2 * (1 - 1e-6)


@pytest.mark.parametrize("reach", [0.0, float("inf"), float("nan")])
def test_an_endless_or_empty_reach_has_a_unit(reach: float) -> None:
    """Such weights load, and are refused by whoever looks at the vectors."""
    unit = static_scale_of(torch.tensor(reach))
    assert torch.isfinite(unit.size)
    assert 0 < float(unit.size * unit.inverse) <= 1


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.booleans(), st.booleans())
def test_nothing_comes_out_larger_than_the_reach(seed: int, rms: bool, biased: bool) -> None:
    """Of norms and of products behind them, for rows that point where they come out largest."""
    generator = torch.Generator().manual_seed(seed)
    random: Callable[..., Any] = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    weight, bias = random(OUT, WIDTH), random(OUT) if biased else None
    norm = Norm(weight=random(WIDTH), bias=random(WIDTH) if biased and not rms else None, eps=1e-12, rms=rms)
    worst = torch.cat([weight * norm.weight, torch.eye(WIDTH)])
    normed = _norm(torch.cat([worst, -worst, random(64, WIDTH)]) * 10 ** random(1), norm)
    assert normed.abs().max() <= norm_bound(norm) * (1 + 1e-5)
    out = torch.nn.functional.linear(normed, weight, bias)
    assert out.abs().max() <= linear_bound(weight, bias, norm) * (1 + 1e-5)
    if rms and not biased:
        assert torch.isclose(out.abs().max(), linear_bound(weight, bias, norm), rtol=1e-3)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_which_layers_have_units(tmp_path: Path, family: str) -> None:
    """Those around an activation without a gate; a layer that is kept has none and is no fp8."""
    model = random_model(tmp_path, family)
    for layer in built(model, "fp8", keep_16bit=["layers.1.down"]).layers[:1]:
        assert layer.qkv.quantised
        assert layer.qkv.unit is None
        assert [part.unit is not None for part in (layer.up, layer.down)] == 2 * [family == "bert"]
        assert not layer.out.quantised
    kept = built(model, "fp8", keep_16bit=["layers.1.down"]).layers[1].down
    assert kept.unit is None
    assert not kept.quantised


@pytest.mark.parametrize("kept", [[], ["layers.0.up"], ["layers.0.down"]], ids=["none", "up", "down"])
def test_layers_agree_with_exact_ones_in_any_mix(tmp_path: Path, kept: list[str]) -> None:
    """Up and down, each in fp8 or 16 bit, within what fp8 costs."""
    model = random_model(tmp_path, "bert")
    exact, mixed = built(model, "fp32"), built(model, "fp8", keep_16bit=kept)
    x = torch.randn(64, exact.embeddings.words.shape[1], generator=torch.Generator().manual_seed(2))
    found, expected = (through_first(network, x) for network in (mixed, exact))
    assert torch.nn.functional.cosine_similarity(found, expected, dim=1).min() > 0.997


def through_first(network: Network, x: Any) -> Any:
    """The first layer's part behind attention."""
    kernels, layer = TorchOps(), network.layers[0]
    x = x.to(network.embeddings.words.dtype)
    rows = kernels.norm(x, layer.attention_norm, reader=layer.up)
    lifted = kernels.up(rows, layer.up, network.activation, gated=network.gated, reader=layer.down)
    return kernels.add_norm(
        lifted, layer.down, rows.values, layer.output_norm, keep_sum=False, reader=None
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
