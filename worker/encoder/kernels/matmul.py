"""Matmuls of linear layers: full batches with the autotuned cuBLASLt algorithm, all others with torch."""

from collections.abc import Iterable
from pathlib import Path

import structlog
import torch
import torch.nn.functional as F

from worker.encoder.kernels.autotune import autotune
from worker.encoder.kernels.cublaslt import WORKSPACE_BYTES, Matmul, MatmulKind, MatmulShape
from worker.models.network import Linear, Rows, StaticScale, Tensor

log = structlog.stdlib.get_logger(__name__)


class Matmuls:
    """Computes the matmuls of linear layers, with torch until `autotune` has found algorithms."""

    def __init__(self, cache: Path | None = None) -> None:
        """`autotune` stores its results in the folder `cache`, by GPU model and library version.

        Without a folder it does nothing, because it would take seconds at every load.
        """
        self._cache = cache
        self._chosen: dict[MatmulShape, tuple[Matmul, bytes]] = {}

    def linear(self, rows: Rows, linear: Linear) -> Tensor:
        """The layer's output (rows, out), 16-bit or fp32."""
        kind: MatmulKind = "plain" if linear.bias is None else "bias"
        x = _input(rows, linear)
        chosen = self._algorithm(kind, x, linear)
        if chosen is None:
            return torch_matmul(kind, rows, linear, None)
        dtype = torch.bfloat16 if linear.quantised else x.dtype
        return _run(chosen, x, linear, x.new_empty(len(x), len(linear.weight), dtype=dtype))

    def gelu(self, rows: Rows, linear: Linear, reader: Linear) -> Rows | None:
        """Tanh GELU of the layer's output in the precision that `reader` reads; None if it is not fusible."""
        if not fuses_gelu(linear, reader):
            return None
        x = _input(rows, linear)
        chosen = self._algorithm("gelu", x, linear)
        if chosen is None:
            return None if linear.quantised else Rows(torch_matmul("gelu", rows, linear, None))
        static_scale = reader.static_scale
        out = _run(chosen, x, linear, x.new_empty(len(x), len(linear.weight)), static_scale)
        return Rows(None, out, static_scale.value) if static_scale else Rows(out)

    def add(self, rows: Rows, linear: Linear, residual: Tensor) -> Tensor:
        """Add the layer's output, without its bias, to `residual` in place."""
        chosen = self._algorithm("add", rows.values, linear)
        if chosen is None:
            return torch_matmul("add", rows, linear, residual)
        return _run(chosen, rows.values, linear, residual)

    def autotune(self, layers: Iterable[tuple[MatmulKind, Linear]], num_rows: int) -> None:
        """Find the fastest algorithms for `num_rows` tokens; takes seconds unless they are cached.

        If the library lacks a function or memory runs out, this is logged and torch remains in use.
        """
        wanted = {_shape(kind, num_rows, linear.weight): linear for kind, linear in layers}
        if self._cache is None or not wanted:
            return
        device = next(iter(wanted.values())).weight.device
        try:
            with torch.cuda.device(device):
                workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
                matmuls = {shape: Matmul(shape, workspace) for shape in wanted}
                self._chosen = autotune(matmuls, wanted, torch_matmul, self._cache)
        except (OSError, AttributeError, RuntimeError) as error:
            log.warning("autotune_failed", reason=str(error))
        torch.cuda.empty_cache()

    def _algorithm(self, kind: MatmulKind, x: Tensor, linear: Linear) -> tuple[Matmul, bytes] | None:
        if not self._chosen or not is_tunable(linear):
            return None
        return self._chosen.get(_shape(kind, len(x), linear.weight))


def is_tunable(linear: Linear) -> bool:
    """True for 16-bit layers and fp8 with a static scale; scales per row have only one algorithm."""
    return linear.weight.itemsize == 2 or linear.static_scale is not None


def fuses_gelu(linear: Linear, reader: Linear) -> bool:
    """True if the matmul can apply GELU for `reader`: both are 16-bit, or both have static scales."""
    same = not (linear.quantised or reader.quantised) or bool(linear.static_scale and reader.static_scale)
    return same and linear.bias is not None


def torch_matmul(kind: MatmulKind, rows: Rows, linear: Linear, residual: Tensor | None) -> Tensor:
    """The matmul with torch, added to `residual` in place if given; GELU is not supported in fp8."""
    weight, bias = linear.weight.t(), linear.bias
    if linear.scale is not None:
        static = linear.static_scale is not None
        recipe = F.ScalingType.TensorWise if static else F.ScalingType.RowWise
        return F.scaled_mm(
            rows.quantised,
            weight,
            rows.scale if static else rows.scale[:, None],
            recipe,
            linear.scale if static else linear.scale[None, :],
            recipe,
            bias=bias,
            output_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
    if residual is not None:
        return residual.addmm_(rows.values, weight)
    if kind == "gelu":
        return torch._addmm_activation(bias, rows.values, weight, use_gelu=True)
    return F.linear(rows.values, linear.weight, bias)


def _input(rows: Rows, linear: Linear) -> Tensor:
    return rows.quantised if linear.quantised else rows.values


def _run(
    chosen: tuple[Matmul, bytes],
    x: Tensor,
    linear: Linear,
    out: Tensor,
    out_scale: StaticScale | None = None,
) -> Tensor:
    matmul, algorithm = chosen
    matmul.run(algorithm, x, linear, out, out_scale)
    return out


def _shape(kind: MatmulKind, num_rows: int, weight: Tensor) -> MatmulShape:
    return MatmulShape(
        rows=num_rows, out=weight.shape[0], inner=weight.shape[1], dtype=weight.dtype, kind=kind
    )
