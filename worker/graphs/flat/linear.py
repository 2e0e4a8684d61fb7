"""Linear layers in an ONNX graph, in the precision of a profile."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from worker.graphs.builder import MICROSOFT, Nodes
from worker.models.architecture import Architecture
from worker.models.weights import Weights

_LARGEST = 127.0  # of a symmetric int8, whose -128 is not used
_MIDDLE = 128  # the unsigned byte that stands for zero
_TINY = 1e-12
# What an activation never falls below: there is no need to look for it.
LEAST = {"relu": 0.0, "gelu": -0.17, "gelu_tanh": -0.1701}


class FlatLinears(Protocol):
    """Writes y = x @ weight.T + bias for the layers of a network; x is (T, in) float32, as is y."""

    def linear(self, x: str, name: str, *, bias: bool) -> str:
        """The layer `name`; without `bias` the product alone, for operators that add it themselves."""


class ExactLinears:
    """Products in float32."""

    def __init__(self, nodes: Nodes, weights: Weights) -> None:
        self._nodes = nodes
        self._weights = weights

    def linear(self, x: str, name: str, *, bias: bool) -> str:
        """See `FlatLinears`."""
        parts = ["weight", "bias"] if bias else ["weight"]
        tensors = [self._nodes.tensor(f"{name}.{part}", self._weights[f"{name}.{part}"]) for part in parts]
        return self._nodes.op("Gemm", x, *tensors, transB=1)


class ByteLinears:
    """Products of bytes: a scale for each row of weights, made here, and for each token, made as it comes.

    A scale for all tokens of a batch, as in DynamicQuantizeLinear, would let a text's vector depend on its
    company, and is less exact. On x86 the product is right only with VNNI: without, its sums saturate.
    """

    def __init__(self, nodes: Nodes, architecture: Architecture, weights: Weights, *, like: str) -> None:
        """`like` is any value of the graph that has a row a token."""
        self._nodes = nodes
        self._weights = weights
        self._leasts = {} if architecture.gated else {"down": LEAST.get(architecture.activation)}
        self._rows: dict[str, tuple[str, str]] = {}
        self._one = nodes.constant(1.0, np.float32)
        self._zero = nodes.constant(_MIDDLE, np.uint8)
        rows = nodes.op("Shape", like, start=0, end=1)
        self._zeros = nodes.op("Expand", self._zero, rows)

    def linear(self, x: str, name: str, *, bias: bool) -> str:
        """See `FlatLinears`."""
        nodes = self._nodes
        quantised, scales = byte_rows(self._weights[f"{name}.weight"])
        # The product wants (in, out).
        weight = nodes.tensor(f"{name}.weight", np.ascontiguousarray(quantised.T))
        step = nodes.tensor(f"{name}.scale", scales)
        if x not in self._rows:
            self._rows[x] = self._quantised(x, self._leasts.get(name.rpartition(".")[2]))
        rows, steps = self._rows[x]
        inputs = rows, weight, self._one, step, self._zero
        y = nodes.op("Mul", nodes.op("MatMulIntegerToFloat", *inputs, domain=MICROSOFT), steps)
        if not bias:
            return y
        return nodes.op("Add", y, nodes.tensor(f"{name}.bias", self._weights[f"{name}.bias"]))

    def _quantised(self, x: str, least: float | None) -> tuple[str, str]:
        """The bytes of x, and what one is worth in each row: float32 (T, 1)."""
        nodes, last = self._nodes, self._nodes.constant([1], np.int64)
        above = nodes.op("ReduceMax", x, last, keepdims=1)
        # With a tiny number a row of zeros stays one.
        below = nodes.constant(max(_TINY, -(least or 0)), np.float32)
        if least is None:
            # A second reduction reads x; a copy without signs would have to be written first.
            below = nodes.op("Sub", below, nodes.op("ReduceMin", x, last, keepdims=1))
        largest = nodes.op("Max", above, below)
        steps = nodes.op("Div", largest, nodes.constant(_LARGEST, np.float32))
        flat = nodes.op("Squeeze", steps, last)
        return nodes.op("QuantizeLinear", x, flat, self._zeros, axis=0), steps


def byte_rows(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """int8 (out, in) and float32 scales (out,) whose product is nearly `weight`, a row's largest exactly."""
    scales = (np.maximum(np.abs(weight).max(axis=1), 1e-12) / _LARGEST).astype(np.float32)
    return np.rint(weight / scales[:, None]).astype(np.int8), scales
