"""The norms of a padded graph, computed in float32."""

import numpy as np

from worker.graphs.builder import Nodes
from worker.models.architecture import Architecture
from worker.models.weights import Weights


class PaddedNorms:
    """Writes LayerNorm or RMSNorm, depending on the network, over the last axis."""

    def __init__(self, nodes: Nodes, architecture: Architecture, weights: Weights) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights

    def write(self, x: str, name: str) -> str:
        """norm(x), both float32."""
        if self._architecture.norm == "rms":
            return self.rms(x, name)
        weight = self._weights[f"{name}.weight"]
        # Not every parser accepts a norm without a bias.
        bias = self._weights.get(f"{name}.bias", np.zeros_like(weight))
        tensors = self._nodes.tensor(f"{name}.weight", weight), self._nodes.tensor(f"{name}.bias", bias)
        return self._nodes.op("LayerNormalization", x, *tensors, axis=-1, epsilon=self._architecture.norm_eps)

    def rms(self, x: str, name: str) -> str:
        """RMSNorm of x; both float32."""
        nodes = self._nodes
        mean = nodes.op("ReduceMean", nodes.op("Mul", x, x), nodes.constant([-1], np.int64))
        epsilon = nodes.constant(self._architecture.norm_eps, np.float32)
        root = nodes.op("Sqrt", nodes.op("Add", mean, epsilon))
        weight = nodes.tensor(f"{name}.weight", self._weights[f"{name}.weight"])
        return nodes.op("Mul", nodes.op("Div", x, root), weight)
