"""Matrix products: of full 16-bit batches by the algorithm that was fastest here, else by torch's choice."""

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F

from worker.encoder.kernels.cublaslt import WORKSPACE_BYTES, Kind, Product, Shape
from worker.encoder.kernels.tuning import tuned
from worker.encoder.network import Linear, Tensor

log = logging.getLogger(__name__)


class Products:
    """x @ weight.T in its kinds; all are torch's until `tune` has found algorithms."""

    def __init__(self, cache: Path | None = None) -> None:
        """What `tune` finds is kept in the folder `cache`, for the next like GPU and library.

        Without one it looks for nothing: seconds at every load are too long.
        """
        self._cache = cache
        self._chosen: dict[Shape, tuple[Product, bytes]] = {}

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x @ weight.T + bias, (rows, out)."""
        return self._computed("plain" if bias is None else "bias", x, weight, bias, None)

    def gelu(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The tanh form of GELU of x @ weight.T + bias."""
        return self._computed("gelu", x, weight, bias, None)

    def add(self, x: Tensor, weight: Tensor, stream: Tensor) -> Tensor:
        """`stream` with x @ weight.T added to it, in place."""
        return self._computed("add", x, weight, None, stream)

    def tune(self, layers: Iterable[tuple[Kind, Linear]], rows: int) -> None:
        """Find the fastest algorithms for batches of `rows` tokens: takes seconds, or none if they are known.

        Where the library or the memory does not do, torch's choice stays and the log says so.
        """
        wanted = {_shape(kind, rows, linear.weight): linear for kind, linear in layers}
        if self._cache is None or not wanted:
            return
        device = next(iter(wanted.values())).weight.device
        try:
            with torch.cuda.device(device):
                workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
                products = {shape: Product(shape, workspace) for shape in wanted}
                self._chosen = tuned(products, wanted, by_torch, self._cache)
        except (OSError, AttributeError, RuntimeError) as error:
            log.warning("products_not_tuned reason=%.200s", error)
        torch.cuda.empty_cache()

    def _computed(
        self, kind: Kind, x: Tensor, weight: Tensor, bias: Tensor | None, stream: Tensor | None
    ) -> Tensor:
        chosen = self._chosen.get(_shape(kind, len(x), weight)) if self._chosen else None
        if chosen is None:
            return by_torch(kind, x, weight, bias, stream)
        product, algorithm = chosen
        out = x.new_empty(len(x), len(weight)) if stream is None else stream
        product.run(algorithm, x, weight, bias, out)
        return out


def by_torch(kind: Kind, x: Tensor, weight: Tensor, bias: Tensor | None, stream: Tensor | None) -> Tensor:
    """The product as torch computes it; with `stream` added to that, in place."""
    if stream is not None:
        return stream.addmm_(x, weight.t())
    if kind == "gelu":
        return torch._addmm_activation(bias, x, weight.t(), use_gelu=True)
    return F.linear(x, weight, bias)


def _shape(kind: Kind, rows: int, weight: Tensor) -> Shape:
    return Shape(rows=rows, out=weight.shape[0], inner=weight.shape[1], dtype=weight.dtype, kind=kind)
