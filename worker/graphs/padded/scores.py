"""Terms added to attention scores in a padded graph: masks and relative position biases."""

import numpy as np

from worker.graphs.builder import Nodes
from worker.graphs.padded.linear import PaddedLinears
from worker.graphs.padded.mask import Mask
from worker.models.architecture import Architecture
from worker.models.relative_bias import bias_by_distance
from worker.models.weights import Weights

# So far below any score that its exponential is 0, while float16 can represent twice this plus a score.
_MASKED = -30_000.0


class PaddedScoreBiases:
    """Writes each bias once, in the dtype of the matmuls."""

    def __init__(
        self, nodes: Nodes, architecture: Architecture, weights: Weights, linears: PaddedLinears, mask: Mask
    ) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._linears = linears
        self._mask = mask
        self._by_window: dict[int, list[str]] = {}
        self._everywhere = [self._padding()]
        if architecture.relative_buckets:
            self._everywhere.append(self._relative(weights))

    def of_layer(self, layer: int) -> list[str]:
        """The terms to add to the scores (B, heads, S, S), one after the other."""
        windows = self._architecture.windows
        window = windows[layer] if windows else 0
        if window not in self._by_window:
            far = [self._far(window)] if window or self._architecture.causal else []
            self._by_window[window] = [*self._everywhere, *far]
        return self._by_window[window]

    def _padding(self) -> str:
        """The mask (B, 1, 1, S) of slots without a token."""
        nodes = self._nodes
        inside = nodes.op("Unsqueeze", self._mask.inside, nodes.constant([1, 2], np.int64))
        return self._mask_unless(inside)

    def _far(self, window: int) -> str:
        """The mask (1, 1, S, S) of keys that follow their query, if causal, or lie outside the window."""
        nodes = self._nodes
        distance, seen = self._distance(), ""
        if self._architecture.causal:
            seen = nodes.op("LessOrEqual", distance, nodes.constant(0, np.int32))
        if window:
            near = nodes.op("LessOrEqual", nodes.op("Abs", distance), nodes.constant(window, np.int32))
            seen = nodes.op("And", seen, near) if seen else near
        return self._mask_unless(nodes.op("Unsqueeze", seen, nodes.constant([0, 1], np.int64)))

    def _relative(self, weights: Weights) -> str:
        """The bias (1, heads, S, S) by the distance between two slots."""
        nodes, max_distance = self._nodes, self._architecture.max_tokens - 1
        values = bias_by_distance(weights["relative_bias"], max_distance)
        table = self._linears.tensor("bias_by_distance", values)
        column = nodes.op("Add", self._distance(), nodes.constant(max_distance, np.int32))
        return nodes.op("Unsqueeze", nodes.op("Gather", table, column, axis=1), nodes.constant([0], np.int64))

    def _distance(self) -> str:
        """int32 (S, S): the key's slot minus the query's."""
        nodes = self._nodes
        rows = nodes.op("Unsqueeze", self._mask.slots, nodes.constant([1], np.int64))
        return nodes.op("Sub", self._mask.slots, rows)

    def _mask_unless(self, seen: str) -> str:
        nodes = self._nodes
        zero, masked = nodes.constant(0, np.float32), nodes.constant(_MASKED, np.float32)
        return self._linears.narrow(nodes.op("Where", seen, zero, masked))
