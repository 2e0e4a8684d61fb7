"""Linear layers of a flat ONNX graph, in floating point or int8."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from worker.graphs.builder import MICROSOFT, Nodes
from worker.models.architecture import Architecture
from worker.models.weights import Weights

_INT8_MAX = 127.0  # symmetric: -128 is not used
_ZERO_POINT = 128  # of uint8 activations
_TINY = 1e-12
# Lower bounds of activations, which make a search for the minimum unnecessary.
ACTIVATION_MIN = {"relu": 0.0, "gelu": -0.17, "gelu_tanh": -0.1701}


class FlatLinears(Protocol):
    """Writes y = x @ weight.T + bias for the layers of a network; x is (T, in) float32, as is y."""

    def linear(self, x: str, name: str, *, bias: bool) -> str:
        """Write the layer `name`; without `bias` only the matmul, for operators that add the bias."""


class FloatLinears:
    """Matmuls in the dtype of the weights."""

    def __init__(self, nodes: Nodes, weights: Weights) -> None:
        self._nodes = nodes
        self._weights = weights

    def linear(self, x: str, name: str, *, bias: bool) -> str:
        """See `FlatLinears`."""
        parts = ["weight", "bias"] if bias else ["weight"]
        tensors = [self._nodes.tensor(f"{name}.{part}", self._weights[f"{name}.{part}"]) for part in parts]
        return self._nodes.op("Gemm", x, *tensors, transB=1)


class Int8Linears:
    """Matmuls in int8 with a static scale per output channel and a dynamic scale per token.

    One scale for all tokens, as in DynamicQuantizeLinear, would make a vector depend on its batch-mates and
    is less accurate. On x86 the matmul is correct only with VNNI: without it, its sums saturate.
    """

    def __init__(self, nodes: Nodes, architecture: Architecture, weights: Weights, *, like: str) -> None:
        """`like` is any value in the graph with one row per token."""
        self._nodes = nodes
        self._weights = weights
        self._minima = {} if architecture.gated else {"down": ACTIVATION_MIN.get(architecture.activation)}
        self._rows: dict[str, tuple[str, str]] = {}
        self._one = nodes.constant(1.0, np.float32)
        self._zero = nodes.constant(_ZERO_POINT, np.uint8)
        rows = nodes.op("Shape", like, start=0, end=1)
        self._zeros = nodes.op("Expand", self._zero, rows)

    def linear(self, x: str, name: str, *, bias: bool) -> str:
        """See `FlatLinears`."""
        nodes = self._nodes
        quantised, scales = int8_rows(self._weights[f"{name}.weight"])
        # The operator expects (in, out).
        weight = nodes.tensor(f"{name}.weight", np.ascontiguousarray(quantised.T))
        step = nodes.tensor(f"{name}.scale", scales)
        if x not in self._rows:
            self._rows[x] = self._quantised(x, self._minima.get(name.rpartition(".")[2]))
        rows, steps = self._rows[x]
        inputs = rows, weight, self._one, step, self._zero
        y = nodes.op("Mul", nodes.op("MatMulIntegerToFloat", *inputs, domain=MICROSOFT), steps)
        if not bias:
            return y
        return nodes.op("Add", y, nodes.tensor(f"{name}.bias", self._weights[f"{name}.bias"]))

    def _quantised(self, x: str, minimum: float | None) -> tuple[str, str]:
        """x as uint8, and the scale of each row: float32 (T, 1)."""
        nodes, last = self._nodes, self._nodes.constant([1], np.int64)
        above = nodes.op("ReduceMax", x, last, keepdims=1)
        # Keeps the scale positive for a row of zeros.
        below = nodes.constant(max(_TINY, -(minimum or 0)), np.float32)
        if minimum is None:
            # A second reduction only reads x; Abs would also write a copy.
            below = nodes.op("Sub", below, nodes.op("ReduceMin", x, last, keepdims=1))
        largest = nodes.op("Max", above, below)
        steps = nodes.op("Div", largest, nodes.constant(_INT8_MAX, np.float32))
        flat = nodes.op("Squeeze", steps, last)
        return nodes.op("QuantizeLinear", x, flat, self._zeros, axis=0), steps


def int8_rows(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """int8 (out, in) and float32 scales (out,) of `weight`, exact for the largest element of each row."""
    scales = (np.maximum(np.abs(weight).max(axis=1), 1e-12) / _INT8_MAX).astype(np.float32)
    return np.rint(weight / scales[:, None]).astype(np.int8), scales
