"""Attention in an ONNX graph, from flat tokens to flat tokens."""

from typing import Protocol

import numpy as np

from worker.graphs.builder import MICROSOFT, Nodes
from worker.graphs.flat.heads import Heads
from worker.graphs.flat.linear import FlatLinears
from worker.graphs.flat.pooling import slot_mask
from worker.graphs.flat.scores import MASKED_SCORE, FlatScoreBiases
from worker.models.architecture import Architecture
from worker.models.weights import Weights


class FlatAttention(Protocol):
    """Writes a layer's attention without its output projection: (T, hidden) to (T, heads * head_dim)."""

    def attend(self, x: str, layer: int) -> str:
        """Softmax attention within each text."""


class SlotAttention:
    """Attention for CPUs over texts with the same number of slots: gathers tokens into slots and back."""

    def __init__(
        self,
        nodes: Nodes,
        architecture: Architecture,
        weights: Weights,
        *,
        linears: FlatLinears,
        heads: Heads,
        biases: FlatScoreBiases,
    ) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights
        self._linears = linears
        self._heads = heads
        self._biases = biases
        self._rows = nodes.constant([-1, architecture.heads * architecture.head_dim], np.int64)
        self._added_to: dict[str, str] = {}
        self._mask = ""

    def attend(self, x: str, layer: int) -> str:
        """See `FlatAttention`."""
        nodes = self._nodes
        q, k, v = (self._part(x, f"layers.{layer}.{part}") for part in "qkv")
        parts = [nodes.op("Gather", part, "slots") for part in self._heads.prepare(q, k, v, layer)]
        mix = self._mix_capped if self._architecture.score_cap else self._mix
        mixed = mix(parts, self._biases.of_layer(layer))
        return nodes.op("Gather", nodes.op("Reshape", mixed, self._rows), "places")

    def _part(self, x: str, name: str) -> str:
        return self._linears.linear(x, name, bias=f"{name}.bias" in self._weights)

    def _mix(self, parts: list[str], bias: str) -> str:
        nodes, heads, kind = self._nodes, self._architecture.heads, "MultiHeadAttention"
        # Left out, it is what the operators compute themselves.
        scale = self._architecture.score_scale if self._architecture.score_divisor else None
        # For texts that fill their slots; without a bias it computes in blocks and needs little memory.
        unmasked = nodes.branch(
            kind, *parts, *(["", "", bias] if bias else []), num_heads=heads, scale=scale, domain=MICROSOFT
        )
        # Faster up to 256 slots: it reads queries, keys and values in place.
        inputs = *parts, self._added(bias)
        masked = nodes.branch("Attention", *inputs, q_num_heads=heads, kv_num_heads=heads, scale=scale)
        return nodes.op("If", "ragged", then_branch=masked, else_branch=unmasked)

    def _mix_capped(self, parts: list[str], bias: str) -> str:
        """The same with capped scores, spelled out: no operator has them."""
        nodes, network = self._nodes, self._architecture
        by_head = nodes.constant([0, 0, network.heads, network.head_dim], np.int64)
        # A transposition of keys that swaps their slots and units at once.
        orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        q, k, v = (
            nodes.op("Transpose", nodes.op("Reshape", part, by_head), perm=order)
            for part, order in zip(parts, orders, strict=True)
        )
        small = nodes.constant(network.score_scale / network.score_cap, np.float32)
        bent = nodes.op("Tanh", nodes.op("Mul", nodes.op("MatMul", q, k), small))
        scores = nodes.op("Mul", bent, nodes.constant(network.score_cap, np.float32))
        for term in filter(None, (bias, self._empty_slots())):
            scores = nodes.op("Add", scores, term)
        mixed = nodes.op("MatMul", nodes.op("Softmax", scores, axis=-1), v)
        rows = nodes.constant([0, 0, network.heads * network.head_dim], np.int64)
        return nodes.op("Reshape", nodes.op("Transpose", mixed, perm=[0, 2, 1, 3]), rows)

    def _empty_slots(self) -> str:
        """The mask added to scores, (B, 1, 1, S): it hides slots after the end of a text."""
        if not self._mask:
            nodes = self._nodes
            inside = nodes.op("Equal", slot_mask(nodes), nodes.constant(1, np.float32))
            values = nodes.constant(0, np.float32), nodes.constant(MASKED_SCORE, np.float32)
            row = nodes.op("Where", inside, *values)
            self._mask = nodes.op("Unsqueeze", row, nodes.constant([1], np.int64))
        return self._mask

    def _added(self, bias: str) -> str:
        """The term added to ragged scores (B, heads or 1, S, S): the bias and a mask of empty slots."""
        if bias not in self._added_to:
            nodes, row = self._nodes, self._empty_slots()
            if bias:
                whole = nodes.branch("Add", bias, row)
            else:
                size, one = nodes.op("Shape", "slots", start=1, end=2), nodes.constant([1], np.int64)
                whole = nodes.branch("Expand", row, nodes.op("Concat", one, one, size, one, axis=0))
            # Without ragged slots this is not read: do not write S x S numbers for a long text.
            unread = nodes.branch("Identity", row)
            self._added_to[bias] = nodes.op("If", "ragged", then_branch=whole, else_branch=unread)
        return self._added_to[bias]
