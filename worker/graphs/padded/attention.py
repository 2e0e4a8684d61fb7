"""Attention in a padded graph, of plain products that engines recognise and fuse."""

import math

import numpy as np

from worker.graphs.builder import Nodes
from worker.graphs.padded.linear import PaddedLinears
from worker.graphs.padded.norm import PaddedNorms
from worker.graphs.padded.scores import PaddedScoreBiases
from worker.models.model import Model
from worker.models.rope import Rope


class PaddedAttention:
    """Writes the attention of each layer, its products in the type of the linear layers."""

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
        self._turns: dict[Rope, tuple[str, str]] = {}

    def write(self, x: str, layer: int) -> str:
        """(B, S, hidden) -> (B, S, heads * head_dim), before the layer `out`."""
        nodes, network = self._nodes, self._architecture
        dim, counts = network.head_dim, (network.heads, network.kv_heads, network.kv_heads)
        fused = self._linears.write(x, f"layers.{layer}.qkv")
        parts = nodes.split(fused, [count * dim for count in counts], axis=-1)
        q, k, v = (
            nodes.op("Reshape", part, nodes.constant([0, 0, count, dim], np.int64))
            for part, count in zip(parts, counts, strict=True)
        )
        q, k = self._placed(q, layer, "q_norm"), self._placed(k, layer, "k_norm")
        # Scaled before the product, which float16 might not hold otherwise.
        q = nodes.op("Mul", q, self._linears.constant(1 / math.sqrt(dim)))
        q, k, v = nodes.op("Transpose", q, perm=[0, 2, 1, 3]), self._shared(k), self._shared(v)
        scores = nodes.op("MatMul", q, nodes.op("Transpose", k, perm=[0, 1, 3, 2]))
        for bias in self._biases.of_layer(layer):
            scores = nodes.op("Add", scores, bias)
        mixed = nodes.op("MatMul", nodes.op("Softmax", scores, axis=-1), v)
        rows = nodes.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return nodes.op("Reshape", rows, nodes.constant([0, 0, network.heads * dim], np.int64))

    def _placed(self, heads: str, layer: int, norm: str) -> str:
        """Queries or keys (B, S, heads, head_dim), normed and turned where the network does so."""
        network = self._architecture
        if not (network.head_norm or network.ropes):
            return heads
        wide = self._linears.wide(heads)
        if network.head_norm:
            wide = self._norms.rms(wide, f"layers.{layer}.{norm}")
        if network.ropes:
            wide = self._turned(wide, network.ropes[layer])
        return self._linears.narrow(wide)

    def _turned(self, heads: str, rope: Rope) -> str:
        """Units of the first half turned with those of the second, in float32."""
        nodes, half = self._nodes, self._architecture.head_dim // 2
        if rope not in self._turns:
            self._turns[rope] = self._turn(rope)
        cosines, sines = self._turns[rope]
        first, second = nodes.split(heads, [half, half], axis=-1)
        left = nodes.op("Sub", nodes.op("Mul", first, cosines), nodes.op("Mul", second, sines))
        right = nodes.op("Add", nodes.op("Mul", second, cosines), nodes.op("Mul", first, sines))
        return nodes.op("Concat", left, right, axis=-1)

    def _turn(self, rope: Rope) -> tuple[str, str]:
        """Cosines and sines float32 (B, S, 1, head_dim / 2) of every token's place."""
        nodes, network = self._nodes, self._architecture
        places = np.arange(self._max_text_tokens, dtype=np.float32)
        angles = np.outer(places, rope.inverse_frequencies(network.head_dim))
        name, axis = f"rotation.{len(self._turns)}", nodes.constant([2], np.int64)
        tables = {"cosines": np.cos(angles), "sines": np.sin(angles)}
        cosines, sines = (
            nodes.op("Unsqueeze", nodes.op("Gather", nodes.tensor(f"{name}.{key}", table), "positions"), axis)
            for key, table in tables.items()
        )
        return cosines, sines

    def _shared(self, heads: str) -> str:
        """Keys or values (B, S, kv_heads, head_dim) as (B, heads, S, head_dim): heads may share them."""
        nodes, network = self._nodes, self._architecture
        turned = nodes.op("Transpose", heads, perm=[0, 2, 1, 3])
        if network.kv_heads == network.heads:
            return turned
        owners = np.repeat(np.arange(network.kv_heads), network.heads // network.kv_heads)
        return nodes.op("Gather", turned, nodes.constant(owners, np.int64), axis=1)
