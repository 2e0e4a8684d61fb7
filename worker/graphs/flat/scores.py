"""Terms added to attention scores in a flat ONNX graph: relative position biases and masks."""

import numpy as np

from worker.graphs.builder import Nodes
from worker.models.architecture import Architecture
from worker.models.relative_bias import bias_by_distance
from worker.models.weights import Weights

MASKED_SCORE = -1e4  # finite in float16, and its exponential is 0


class FlatScoreBiases:
    """Writes the bias of each layer's scores, the same for all texts: (1, heads or 1, S, S)."""

    def __init__(
        self, nodes: Nodes, architecture: Architecture, weights: Weights, *, max_tokens: int
    ) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights
        self._max_tokens = max_tokens
        self._distance = ""
        self._written: dict[int, str] = {}

    def of_layer(self, layer: int) -> str:
        """The name of the value, or "" for a layer without a bias."""
        window = self._architecture.windows[layer] if self._architecture.windows else 0
        if window not in self._written:
            self._written[window] = self._write(window)
        return self._written[window]

    def _write(self, window: int) -> str:
        if self._architecture.relative_buckets:
            return self._by_distance()
        nodes, zero = self._nodes, self._nodes.constant(0, np.int64)
        outside = []
        if self._architecture.causal:
            outside.append(nodes.op("Greater", self._distances(), zero))
        if window:
            limit = nodes.constant(window, np.int64)
            outside.append(nodes.op("Greater", nodes.op("Abs", self._distances()), limit))
        if not outside:
            return ""
        masked = outside[0] if len(outside) == 1 else nodes.op("Or", *outside)
        dtype = self._weights["embeddings.word"].dtype.type
        values = nodes.constant(MASKED_SCORE, dtype), nodes.constant(0, dtype)
        return nodes.op("Unsqueeze", nodes.op("Where", masked, *values), nodes.constant([0, 1], np.int64))

    def _by_distance(self) -> str:
        nodes, max_distance = self._nodes, self._max_tokens - 1
        buckets = self._weights["relative_bias"]
        table = bias_by_distance(buckets.astype(np.float32), max_distance).astype(buckets.dtype)
        # There may be a few more slots than the longest text has tokens; their scores are never read.
        ends = nodes.constant(0, np.int64), nodes.constant(2 * max_distance, np.int64)
        shifted = nodes.op("Add", self._distances(), nodes.constant(max_distance, np.int64))
        column = nodes.op("Clip", shifted, *ends)
        biases = nodes.op("Gather", nodes.tensor("bias_by_distance", table), column, axis=1)
        return nodes.op("Unsqueeze", biases, nodes.constant([0], np.int64))

    def _distances(self) -> str:
        """Key minus query, int64 (S, S)."""
        if not self._distance:
            nodes, one = self._nodes, self._nodes.constant(1, np.int64)
            size = nodes.op("Gather", nodes.op("Shape", "slots"), one)
            slots = nodes.op("Range", nodes.constant(0, np.int64), size, one)
            rows = nodes.op("Unsqueeze", slots, nodes.constant([1], np.int64))
            self._distance = nodes.op("Sub", slots, rows)
        return self._distance
