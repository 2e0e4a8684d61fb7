"""Matrix products: of full batches by the algorithm that was fastest here, else by torch's choice."""

from collections.abc import Iterable
from pathlib import Path

import structlog
import torch
import torch.nn.functional as F

from worker.encoder.kernels.autotune import tuned
from worker.encoder.kernels.cublaslt import WORKSPACE_BYTES, Kind, Matmul, MatmulShape
from worker.encoder.network import Linear, Rows, StaticScale, Tensor

log = structlog.stdlib.get_logger(__name__)


class Matmuls:
    """A layer's product in its kinds; all are torch's until `tune` has found algorithms."""

    def __init__(self, cache: Path | None = None) -> None:
        """What `tune` finds is kept in the folder `cache`, for the next like GPU and library.

        Without one it looks for nothing: seconds at every load are too long.
        """
        self._cache = cache
        self._chosen: dict[MatmulShape, tuple[Matmul, bytes]] = {}

    def linear(self, rows: Rows, linear: Linear) -> Tensor:
        """The layer's output (rows, out) in 16 bit or fp32."""
        kind: Kind = "plain" if linear.bias is None else "bias"
        x = _read(rows, linear)
        chosen = self._algorithm(kind, x, linear)
        if chosen is None:
            return by_torch(kind, rows, linear, None)
        dtype = torch.bfloat16 if linear.quantised else x.dtype
        return _run(chosen, x, linear, x.new_empty(len(x), len(linear.weight), dtype=dtype))

    def gelu(self, rows: Rows, linear: Linear, reader: Linear) -> Rows | None:
        """The tanh form of GELU of the layer's output as `reader` reads it; None if no product does that."""
        if not has_gelu(linear, reader):
            return None
        x = _read(rows, linear)
        chosen = self._algorithm("gelu", x, linear)
        if chosen is None:
            return None if linear.quantised else Rows(by_torch("gelu", rows, linear, None))
        out = _run(chosen, x, linear, x.new_empty(len(x), len(linear.weight)), reader.unit)
        return Rows(None, out, reader.unit.size) if reader.unit else Rows(out)

    def add(self, rows: Rows, linear: Linear, stream: Tensor) -> Tensor:
        """`stream` with the layer's output but for its bias added, in place."""
        chosen = self._algorithm("add", rows.values, linear)
        if chosen is None:
            return by_torch("add", rows, linear, stream)
        return _run(chosen, rows.values, linear, stream)

    def tune(self, layers: Iterable[tuple[Kind, Linear]], num_rows: int) -> None:
        """Find the fastest algorithms for `num_rows` tokens: takes seconds, or none if they are known.

        Where the library or the memory does not do, torch's choice stays and the log says so.
        """
        wanted = {_shape(kind, num_rows, linear.weight): linear for kind, linear in layers}
        if self._cache is None or not wanted:
            return
        device = next(iter(wanted.values())).weight.device
        try:
            with torch.cuda.device(device):
                workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
                products = {shape: Matmul(shape, workspace) for shape in wanted}
                self._chosen = tuned(products, wanted, by_torch, self._cache)
        except (OSError, AttributeError, RuntimeError) as error:
            log.warning("products_not_tuned", reason=str(error))
        torch.cuda.empty_cache()

    def _algorithm(self, kind: Kind, x: Tensor, linear: Linear) -> tuple[Matmul, bytes] | None:
        if not self._chosen or not is_tunable(linear):
            return None
        return self._chosen.get(_shape(kind, len(x), linear.weight))


def is_tunable(linear: Linear) -> bool:
    """True for 16 bit and for fp8 in one unit; with a scale a row there is only one algorithm."""
    return linear.weight.itemsize == 2 or linear.unit is not None


def has_gelu(linear: Linear, reader: Linear) -> bool:
    """True if a product can do GELU and leave what `reader` reads: both in 16 bit, or in units."""
    alike = not (linear.quantised or reader.quantised) or bool(linear.unit and reader.unit)
    return alike and linear.bias is not None


def by_torch(kind: Kind, rows: Rows, linear: Linear, stream: Tensor | None) -> Tensor:
    """The product as torch computes it; with `stream` added to that, in place. fp8 has no GELU."""
    weight, bias = linear.weight.t(), linear.bias
    if linear.scale is not None:
        in_unit = linear.unit is not None
        return torch._scaled_mm(
            rows.quantised,
            weight,
            scale_a=rows.scale if in_unit else rows.scale[:, None],
            scale_b=linear.scale if in_unit else linear.scale[None, :],
            bias=bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
    if stream is not None:
        return stream.addmm_(rows.values, weight)
    if kind == "gelu":
        return torch._addmm_activation(bias, rows.values, weight, use_gelu=True)
    return F.linear(rows.values, linear.weight, bias)


def _read(rows: Rows, linear: Linear) -> Tensor:
    return rows.quantised if linear.quantised else rows.values


def _run(
    chosen: tuple[Matmul, bytes], x: Tensor, linear: Linear, out: Tensor, unit: StaticScale | None = None
) -> Tensor:
    product, algorithm = chosen
    product.run(algorithm, x, linear, out, unit)
    return out


def _shape(kind: Kind, num_rows: int, weight: Tensor) -> MatmulShape:
    return MatmulShape(
        rows=num_rows, out=weight.shape[0], inner=weight.shape[1], dtype=weight.dtype, kind=kind
    )
