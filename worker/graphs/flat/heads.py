"""Queries, keys and values of flat tokens in an ONNX graph: head norms, rotary positions, grouped heads."""

from typing import Any

import numpy as np

from worker.graphs.builder import MICROSOFT, Nodes
from worker.graphs.flat.norm import FlatNorms
from worker.models.architecture import Architecture
from worker.models.rope import Rope
from worker.models.weights import Weights


class Heads:
    """Writes the steps between the QKV projections and attention; all values are (T, heads * head_dim)."""

    def __init__(
        self, nodes: Nodes, architecture: Architecture, weights: Weights, norms: FlatNorms, *, max_tokens: int
    ) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._norms = norms
        self._max_tokens = max_tokens
        self._dtype = weights["embeddings.word"].dtype
        self._tables: dict[Rope, list[str]] = {}
        self._positions = ""

    def prepare(self, q: str, k: str, v: str, layer: int) -> tuple[str, str, str]:
        """Queries, keys and values after head norms and rotation, all with as many heads as the queries."""
        network = self._architecture
        if network.head_norm:
            q, k = (
                self._normalised(q, f"layers.{layer}.q_norm"),
                self._normalised(k, f"layers.{layer}.k_norm"),
            )
        if network.ropes:
            q, k = self._rotated(q, network.ropes[layer]), self._rotated(k, network.ropes[layer])
        return q, self._repeated(k), self._repeated(v)

    def _normalised(self, x: str, name: str) -> str:
        nodes = self._nodes
        by_head = nodes.op("Reshape", x, nodes.constant([-1, self._architecture.head_dim], np.int64))
        normalised = self._norms.norm(by_head, name, rms=True)
        return nodes.op("Reshape", normalised, nodes.op("Shape", x))

    def _rotated(self, x: str, rope: Rope) -> str:
        nodes = self._nodes
        second = nodes.constant([1], np.int64)
        if not self._positions:
            places = nodes.op("Cast", "positions", to=7)
            self._positions = nodes.op("Unsqueeze", places, second)
        # The operator sees every token as a text of length 1 with its own position.
        rows = nodes.op("Unsqueeze", x, second)
        inputs = rows, self._positions, *self._table(rope)
        return nodes.op("Squeeze", nodes.op("RotaryEmbedding", *inputs, domain=MICROSOFT), second)

    def _table(self, rope: Rope) -> list[str]:
        if rope not in self._tables:
            frequencies = rope.inverse_frequencies(self._architecture.head_dim)
            angles = np.outer(np.arange(self._max_tokens, dtype=np.float32), frequencies)
            number = len(self._tables)
            tables: list[tuple[str, Any]] = [("cosines", np.cos(angles)), ("sines", np.sin(angles))]
            self._tables[rope] = [
                self._nodes.tensor(f"{name}.{number}", table.astype(self._dtype)) for name, table in tables
            ]
        return self._tables[rope]

    def _repeated(self, x: str) -> str:
        network, nodes = self._architecture, self._nodes
        if network.kv_heads == network.heads:
            return x
        by_head = nodes.constant([-1, network.kv_heads, network.head_dim], np.int64)
        kv_head = nodes.constant(np.arange(network.heads) * network.kv_heads // network.heads, np.int64)
        repeated = nodes.op("Gather", nodes.op("Reshape", x, by_head), kv_head, axis=1)
        return nodes.op("Reshape", repeated, nodes.constant([-1, network.heads * network.head_dim], np.int64))
