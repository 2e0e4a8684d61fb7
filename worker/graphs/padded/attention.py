"""Attention in a padded graph, written as plain matmuls that TensorRT recognises and fuses."""

import numpy as np

from worker.graphs.builder import Nodes
from worker.graphs.padded.linear import PaddedLinears
from worker.graphs.padded.norm import PaddedNorms
from worker.graphs.padded.scores import PaddedScoreBiases
from worker.models.model import Model
from worker.models.rope import Rope


class PaddedAttention:
    """Writes the attention of each layer, its matmuls in the dtype of the linear layers."""

    def __init__(
        self,
        nodes: Nodes,
        model: Model,
        linears: PaddedLinears,
        norms: PaddedNorms,
        biases: PaddedScoreBiases,
    ) -> None:
        self._nodes = nodes
        self._architecture = model.architecture
        self._max_text_tokens = model.max_text_tokens
        self._linears = linears
        self._norms = norms
        self._biases = biases
        self._tables: dict[Rope, tuple[str, str]] = {}

    def write(self, x: str, layer: int) -> str:
        """Write attention without its output projection: (B, S, hidden) to (B, S, heads * head_dim)."""
        nodes, network = self._nodes, self._architecture
        dim, counts = network.head_dim, (network.heads, network.kv_heads, network.kv_heads)
        fused = self._linears.write(x, f"layers.{layer}.qkv")
        parts = nodes.split(fused, [count * dim for count in counts], axis=-1)
        q, k, v = (
            nodes.op("Reshape", part, nodes.constant([0, 0, count, dim], np.int64))
            for part, count in zip(parts, counts, strict=True)
        )
        q, k = self._prepared(q, layer, "q_norm"), self._prepared(k, layer, "k_norm")
        # Scale before the matmul, whose result could otherwise overflow float16.
        q = nodes.op("Mul", q, self._linears.constant(network.score_scale))
        q, k, v = nodes.op("Transpose", q, perm=[0, 2, 1, 3]), self._repeated(k), self._repeated(v)
        scores = nodes.op("MatMul", q, nodes.op("Transpose", k, perm=[0, 1, 3, 2]))
        if network.score_cap:
            cap = self._linears.constant(network.score_cap)
            scores = nodes.op("Mul", nodes.op("Tanh", nodes.op("Div", scores, cap)), cap)
        for bias in self._biases.of_layer(layer):
            scores = nodes.op("Add", scores, bias)
        attended = nodes.op("MatMul", nodes.op("Softmax", scores, axis=-1), v)
        rows = nodes.op("Transpose", attended, perm=[0, 2, 1, 3])
        return nodes.op("Reshape", rows, nodes.constant([0, 0, network.heads * dim], np.int64))

    def _prepared(self, heads: str, layer: int, norm: str) -> str:
        """Queries or keys (B, S, heads, head_dim) after head norms and rotation, if the network has them."""
        network = self._architecture
        if not (network.head_norm or network.ropes):
            return heads
        wide = self._linears.wide(heads)
        if network.head_norm:
            wide = self._norms.rms(wide, f"layers.{layer}.{norm}")
        if network.ropes:
            wide = self._rotated(wide, network.ropes[layer])
        return self._linears.narrow(wide)

    def _rotated(self, heads: str, rope: Rope) -> str:
        """Rotate the first half of each head against its second, in float32."""
        nodes, half = self._nodes, self._architecture.head_dim // 2
        if rope not in self._tables:
            self._tables[rope] = self._rotation(rope)
        cosines, sines = self._tables[rope]
        first, second = nodes.split(heads, [half, half], axis=-1)
        left = nodes.op("Sub", nodes.op("Mul", first, cosines), nodes.op("Mul", second, sines))
        right = nodes.op("Add", nodes.op("Mul", second, cosines), nodes.op("Mul", first, sines))
        return nodes.op("Concat", left, right, axis=-1)

    def _rotation(self, rope: Rope) -> tuple[str, str]:
        """Cosines and sines for every token's position, float32 (B, S, 1, head_dim / 2)."""
        nodes, network = self._nodes, self._architecture
        positions = np.arange(self._max_text_tokens, dtype=np.float32)
        angles = np.outer(positions, rope.inverse_frequencies(network.head_dim))
        name, axis = f"rotation.{len(self._tables)}", nodes.constant([2], np.int64)
        tables = {"cosines": np.cos(angles), "sines": np.sin(angles)}
        cosines, sines = (
            nodes.op("Unsqueeze", nodes.op("Gather", nodes.tensor(f"{name}.{key}", table), "positions"), axis)
            for key, table in tables.items()
        )
        return cosines, sines

    def _repeated(self, heads: str) -> str:
        """Keys or values (B, S, kv_heads, head_dim) as (B, heads, S, head_dim), repeated if grouped."""
        nodes, network = self._nodes, self._architecture
        by_head = nodes.op("Transpose", heads, perm=[0, 2, 1, 3])
        if network.kv_heads == network.heads:
            return by_head
        kv_head = np.repeat(np.arange(network.kv_heads), network.heads // network.kv_heads)
        return nodes.op("Gather", by_head, nodes.constant(kv_head, np.int64), axis=1)
