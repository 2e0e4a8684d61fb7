"""Products by cuBLASLt's algorithms against torch's, on a GPU."""

import importlib
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
ROWS, HIDDEN = 2048, 384
KINDS = {"plain": (1152, HIDDEN), "bias": (1152, HIDDEN), "gelu": (1536, HIDDEN), "add": (HIDDEN, 1536)}


@pytest.fixture(scope="module")
def torch() -> Any:
    """Torch, imported late: collecting these tests needs no GPU library."""
    return importlib.import_module("torch")


@pytest.fixture(scope="module")
def cublaslt() -> Any:
    """The library's edge."""
    return importlib.import_module("worker.encoder.kernels.cublaslt")


@pytest.fixture(scope="module")
def products() -> Any:
    """The module under test."""
    return importlib.import_module("worker.encoder.kernels.products")


def layer(torch: Any, kind: str, dtype: Any) -> Any:
    out, inner = KINDS[kind]
    weight = (torch.randn(out, inner, device="cuda") * 0.05).to(dtype)
    bias = torch.randn(out, device="cuda").to(dtype) if kind in ("bias", "gelu") else None
    return importlib.import_module("worker.encoder.network").Linear(weight=weight, bias=bias)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_proposed_algorithm_computes_the_product(
    torch: Any, cublaslt: Any, products: Any, kind: Any, dtype: str
) -> None:
    """Against fp32, as close as torch's own; there is more than one."""
    linear = layer(torch, kind, getattr(torch, dtype))
    x = torch.randn(ROWS, linear.weight.shape[1], device="cuda").to(linear.weight.dtype)
    stream = torch.randn(ROWS, linear.weight.shape[0], device="cuda").to(x.dtype) if kind == "add" else None
    exact = products.by_torch(
        kind,
        x.float(),
        linear.weight.float(),
        None if linear.bias is None else linear.bias.float(),
        None if stream is None else stream.float(),
    )
    workspace = torch.empty(cublaslt.WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    product = cublaslt.Product(products._shape(kind, ROWS, linear.weight), workspace)
    algorithms = product.algorithms()
    assert len(algorithms) > 1
    bound = 1e-3 if dtype == "float16" else 8e-3
    for algorithm in algorithms:
        out = torch.full_like(exact, 7.0, dtype=x.dtype) if stream is None else stream.clone()
        product.run(algorithm, x, linear.weight, linear.bias, out)
        assert float((out.float() - exact).norm() / exact.norm()) < bound


def test_tuned_products_agree_and_are_known_at_the_next_boot(
    torch: Any, products: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All kinds; other numbers of rows stay torch's; a second tuning clocks nothing."""
    layers = [(kind, layer(torch, kind, torch.float16)) for kind in KINDS]
    found = products.Products(tmp_path)
    found.tune(layers, ROWS)
    (kept,) = tmp_path.glob("*.json")
    tuning = importlib.import_module("worker.encoder.kernels.tuning")
    monkeypatch.setattr(tuning, "_fastest", None)
    again = products.Products(tmp_path)
    again.tune(layers, ROWS)
    assert {shape: name for shape, (_, name) in again._chosen.items()} == {
        shape: name for shape, (_, name) in found._chosen.items()
    }
    assert kept.stat().st_size > 0
    plain = products.Products()
    for rows in (ROWS, 256):
        for kind, linear in layers:
            x = torch.randn(rows, linear.weight.shape[1], device="cuda").half()
            if kind == "add":
                stream = torch.randn(rows, linear.weight.shape[0], device="cuda").half()
                pair = [each.add(x, linear.weight, stream.clone()) for each in (again, plain)]
            elif kind == "gelu":
                pair = [each.gelu(x, linear.weight, linear.bias) for each in (again, plain)]
            else:
                pair = [each.linear(x, linear.weight, linear.bias) for each in (again, plain)]
            assert float((pair[0] - pair[1]).float().norm() / pair[1].float().norm()) < 1e-3
