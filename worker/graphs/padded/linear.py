"""Linear layers of a padded ONNX graph, in fp32, fp16 or fp8."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.errors import BackendError
from worker.graphs.builder import Nodes
from worker.models.number_formats import FP8_MAX
from worker.models.weights import Weights

#: Linear layer -> the largest magnitude of its input, which maps to the largest fp8 number.
Scales = Mapping[str, float]
_PRECISIONS = ("fp32", "fp16", "fp8")
_ONNX_TYPES: dict[str, int] = {"float32": 1, "float16": 10}


class PaddedLinears:
    """Writes linear layers, and the casts between their dtype and float32.

    With fp8, weights have a scale per output channel and inputs one calibrated scale per layer, so that no
    vector depends on its batch-mates; everything else is float16. `inputs` maps each layer to its input.
    """

    def __init__(self, nodes: Nodes, weights: Weights, *, precision: str, scales: Scales) -> None:
        if precision not in _PRECISIONS:
            raise BackendError(f"a padded graph supports {', '.join(_PRECISIONS)}, not {precision}")
        self.inputs: dict[str, str] = {}
        self._nodes = nodes
        self._weights = weights
        self._scales = scales
        self._fp8 = precision == "fp8"
        self._dtype: type[np.generic] = np.float32 if precision == "fp32" else np.float16

    def write(self, x: str, name: str) -> str:
        """x @ weight.T + bias. Raises BackendError if fp8 has no scale for the layer."""
        self.inputs[name] = x
        weight = self._weights[f"{name}.weight"].T
        if self._fp8:
            matmul = self._nodes.op("MatMul", self._fake_quantised(x, name), self._quantised(name, weight))
        else:
            matmul = self._nodes.op("MatMul", x, self.tensor(f"{name}.weight", weight))
        if f"{name}.bias" not in self._weights:
            return matmul
        return self._nodes.op("Add", matmul, self.tensor(f"{name}.bias", self._weights[f"{name}.bias"]))

    def wide(self, x: str) -> str:
        """Cast a value to float32."""
        return x if self._dtype is np.float32 else self._nodes.op("Cast", x, to=_ONNX_TYPES["float32"])

    def narrow(self, x: str) -> str:
        """Cast a float32 value to the dtype of the matmuls."""
        return x if self._dtype is np.float32 else self._nodes.op("Cast", x, to=_ONNX_TYPES["float16"])

    def tensor(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a large tensor in the dtype of the matmuls. Raises BackendError if float16 cannot hold it."""
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(value, dtype=self._dtype)
        if not np.isfinite(cast).all():
            raise BackendError(f"{name} has values that float16 cannot hold; choose another precision")
        return self._nodes.tensor(name, cast)

    def constant(self, value: float) -> str:
        """Add a number in the dtype of the matmuls."""
        return self._nodes.constant(value, self._dtype)

    def _fake_quantised(self, x: str, name: str) -> str:
        if name not in self._scales:
            raise BackendError(f"fp8 has no scale for the input of {name}; calibrate the model again")
        # Keeps the scale positive for a layer that only saw zeros.
        scale = self._nodes.constant(max(self._scales[name] / FP8_MAX, 2.0**-24), self._dtype)
        zero = self._nodes.constant(np.zeros((), _float8()), _float8())
        return self._nodes.op(
            "DequantizeLinear", self._nodes.op("QuantizeLinear", x, scale, zero), scale, zero
        )

    def _quantised(self, name: str, weight: npt.NDArray[np.float32]) -> str:
        scale = np.maximum(np.abs(weight).max(axis=0) / FP8_MAX, 2.0**-24).astype(np.float16)
        stored = np.clip(weight / scale.astype(np.float32), -FP8_MAX, FP8_MAX).astype(_float8())
        tensor = self._nodes.tensor(f"{name}.weight", np.ascontiguousarray(stored))
        return self._nodes.op("DequantizeLinear", tensor, self._nodes.constant(scale, np.float16), axis=1)


def _float8() -> Any:
    import ml_dtypes

    return ml_dtypes.float8_e4m3fn
