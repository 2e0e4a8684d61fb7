"""Matmuls by cuBLASLt's algorithms against torch's, on a GPU."""

import importlib
from pathlib import Path
from types import SimpleNamespace
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
def ours() -> Any:
    """The modules under test."""
    names = ("quantisation", "kernels.cublaslt", "kernels.matmul", "kernels.autotune")
    paths = ("worker.models.network", *(f"worker.encoder.{name}" for name in names))
    modules = list(map(importlib.import_module, paths))
    return SimpleNamespace(**{module.__name__.rpartition(".")[2]: module for module in modules})


def layer(torch: Any, ours: Any, kind: str, dtype: Any) -> Any:
    out, inner = KINDS[kind]
    weight = (torch.randn(out, inner, device="cuda") * 0.05).to(dtype)
    bias = torch.randn(out, device="cuda").to(dtype) if kind in ("bias", "gelu") else None
    return ours.network.Linear(weight=weight, bias=bias)


def layer_in_fp8(torch: Any, ours: Any, kind: str) -> Any:
    """With a static scale for numbers up to 6."""
    exact = layer(torch, ours, kind, torch.bfloat16)
    weight, scale = ours.quantisation.quantise_tensor(exact.weight)
    static_scale = ours.quantisation.static_scale_for(torch.tensor(6.0, device="cuda"))
    return ours.network.Linear(weight=weight, bias=exact.bias, scale=scale, static_scale=static_scale)


def relative(found: Any, exact: Any) -> float:
    return float((found.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_proposed_algorithm_computes_the_matmul(torch: Any, ours: Any, kind: Any, dtype: str) -> None:
    """Against fp32, as close as torch's own; there is more than one."""
    linear = layer(torch, ours, kind, getattr(torch, dtype))
    x = torch.randn(ROWS, linear.weight.shape[1], device="cuda").to(linear.weight.dtype)
    residual = torch.randn(ROWS, linear.weight.shape[0], device="cuda").to(x.dtype) if kind == "add" else None
    in_fp32 = ours.network.Linear(
        weight=linear.weight.float(), bias=None if linear.bias is None else linear.bias.float()
    )
    addend = None if residual is None else residual.float()
    exact = ours.matmul.torch_matmul(kind, ours.network.Rows(x.float()), in_fp32, addend)
    workspace = torch.empty(ours.cublaslt.WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    matmul = ours.cublaslt.Matmul(ours.matmul._shape(kind, ROWS, linear.weight), workspace)
    algorithms = matmul.algorithms()
    assert len(algorithms) > 1
    bound = 1e-3 if dtype == "float16" else 8e-3
    for algorithm in algorithms:
        out = torch.full_like(exact, 7.0, dtype=x.dtype) if residual is None else residual.clone()
        matmul.run(algorithm, x, linear, out)
        assert relative(out, exact) < bound


@pytest.mark.parametrize("kind", ["plain", "bias", "gelu"])
def test_every_proposed_algorithm_computes_the_matmul_in_fp8(torch: Any, ours: Any, kind: Any) -> None:
    """Against fp32 of the same numbers; with GELU in fp8 again, within its step."""
    linear = layer_in_fp8(torch, ours, kind)
    x = torch.randn(ROWS, linear.weight.shape[1], device="cuda").clamp(-6, 6)
    rows = ours.quantisation.rows_for(linear, x, torch.bfloat16)
    exact = rows.quantised.float() @ linear.weight.float().T * rows.scale * linear.scale
    exact = exact if linear.bias is None else exact + linear.bias.float()
    exact = torch.nn.functional.gelu(exact, approximate="tanh") if kind == "gelu" else exact
    workspace = torch.empty(ours.cublaslt.WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    matmul = ours.cublaslt.Matmul(ours.matmul._shape(kind, ROWS, linear.weight), workspace)
    algorithms = matmul.algorithms()
    assert len(algorithms) > 1
    out_scale = ours.quantisation.static_scale_for(exact.abs().amax()) if kind == "gelu" else None
    dtype = x.to(torch.float8_e4m3fn).dtype if out_scale else torch.bfloat16
    for algorithm in algorithms:
        out = torch.zeros(exact.shape, device="cuda").to(dtype)
        matmul.run(algorithm, rows.quantised, linear, out, out_scale)
        if out_scale:
            assert relative(out.float() * out_scale.value, exact) < 0.04
        else:
            assert relative(out, exact) < 8e-3


def test_autotuned_matmuls_agree_and_are_known_at_the_next_boot(
    torch: Any, ours: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every kind; torch computes other numbers of rows; the second time nothing is measured."""
    layers = [(kind, layer(torch, ours, kind, torch.float16)) for kind in KINDS]
    found = ours.matmul.Matmuls(tmp_path)
    found.autotune(layers, ROWS)
    (kept,) = tmp_path.glob("*.json")
    monkeypatch.setattr(ours.autotune, "_fastest", None)
    again = ours.matmul.Matmuls(tmp_path)
    again.autotune(layers, ROWS)
    assert {shape: name for shape, (_, name) in again._chosen.items()} == {
        shape: name for shape, (_, name) in found._chosen.items()
    }
    assert kept.stat().st_size > 0
    plain = ours.matmul.Matmuls()
    for num_rows in (ROWS, 256):
        for kind, linear in layers:
            rows = ours.network.Rows(torch.randn(num_rows, linear.weight.shape[1], device="cuda").half())
            if kind == "add":
                residual = torch.randn(num_rows, linear.weight.shape[0], device="cuda").half()
                pair = [each.add(rows, linear, residual.clone()) for each in (again, plain)]
            elif kind == "gelu":
                pair = [each.gelu(rows, linear, linear).values for each in (again, plain)]
            else:
                pair = [each.linear(rows, linear) for each in (again, plain)]
            assert relative(pair[0], pair[1].float()) < 1e-3
