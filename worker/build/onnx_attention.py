"""Attention in an ONNX graph, from flat tokens to flat tokens."""

from typing import Any, Protocol

import numpy as np

from worker.architecture import Architecture
from worker.build.onnx_heads import Heads
from worker.build.onnx_linear import Linears
from worker.build.onnx_nodes import MICROSOFT, Nodes
from worker.build.onnx_scores import ScoreBiases
from worker.weights import Weights


class Attention(Protocol):
    """Writes a layer's attention up to its output layer: (T, hidden) to (T, heads * head_dim)."""

    def attend(self, x: str, layer: int) -> str:
        """Softmax attention within each text."""


class SlotAttention:
    """Attention over texts of equally many slots, for CPUs: tokens are gathered into slots and back."""

    def __init__(
        self,
        nodes: Nodes,
        architecture: Architecture,
        weights: Weights,
        *,
        linears: Linears,
        heads: Heads,
        biases: ScoreBiases,
    ) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights
        self._linears = linears
        self._heads = heads
        self._biases = biases
        self._rows = nodes.constant([-1, architecture.heads * architecture.head_dim], np.int64)
        self._thirds: list[str] = []

    def attend(self, x: str, layer: int) -> str:
        """See `Attention`."""
        nodes, name = self._nodes, f"layers.{layer}.qkv"
        if self._architecture.positions == "rotary":
            qkv = self._linears.linear(x, name, bias="qkv" in self._architecture.biased)
            parts = [nodes.op("Gather", part, "slots") for part in self._heads.split(qkv, layer)]
            bias = ""
        else:
            fused = nodes.op("Reshape", self._linears.linear(x, name, bias=False), self._rows)
            parts = [nodes.op("Gather", fused, rows) for rows in self._rows_of_thirds()]
            bias = nodes.tensor(f"{name}.bias", self._weights[f"{name}.bias"])
        mixed = self._mix([*parts, bias], self._biases.of_layer(layer))
        return nodes.op("Gather", nodes.op("Reshape", mixed, self._rows), "places")

    def _mix(self, inputs: list[str], bias: str) -> str:
        nodes, kind = self._nodes, "MultiHeadAttention"
        options: dict[str, Any] = {"num_heads": self._architecture.heads, "domain": MICROSOFT}
        if bias:
            return nodes.op(kind, *inputs, "lengths", bias, **options)
        return nodes.op(
            "If",
            "ragged",
            then_branch=nodes.branch(kind, *inputs, "lengths", **options),
            else_branch=nodes.branch(kind, *inputs, **options),
        )

    def _rows_of_thirds(self) -> list[str]:
        """Seen as (3 * T, hidden), the fused product holds q, k, v of token t in rows 3t, 3t + 1, 3t + 2."""
        if not self._thirds:
            nodes = self._nodes
            first = nodes.op("Mul", "slots", nodes.constant(3, np.int32))
            self._thirds = [first, *(nodes.op("Add", first, nodes.constant(n, np.int32)) for n in (1, 2))]
        return self._thirds
