"""A network as an ONNX graph over flat tokens, ending at the finished vector.

Linear layers, norms and activations, which are nearly all the work, see the T tokens of a batch as they lie,
without padding; only attention and pooling see B texts x S slots, S being the longest text. Inputs:

    ids, positions   int32 (T,)     token ids, and their rows of the position table
    slots            int32 (B, S)   the token in a slot; behind a text's end, its last token again
    places           int32 (T,)     where a token sits among the B * S slots
    lengths          int32 (B,)     tokens of each text
    ragged           bool ()        whether lengths differ: if not, attention needs no mask and goes faster

Output: vectors float32 (B, dim).
"""

from typing import Any

import numpy as np

from worker.architecture import Architecture
from worker.build.onnx_head import add_head
from worker.build.onnx_linear import ByteLinears, ExactLinears, Linears
from worker.build.onnx_nodes import MICROSOFT, Graph, Nodes
from worker.encoder.relative_bias import bias_by_distance
from worker.model import Model
from worker.weights import Weights


def build_graph(model: Model, weights: Weights, *, precision: str = "fp32") -> Graph:
    """The model's graph, its linear layers in `precision` (fp32 or int8); `weights` as of `read_weights`."""
    nodes = Nodes()
    linears = ByteLinears(nodes, weights, like="ids") if precision == "int8" else ExactLinears(nodes, weights)
    network = _Network(nodes, model.architecture, weights, linears)
    vectors = add_head(nodes, network.hidden_states(), model)
    return nodes.finish(_inputs(), vectors, name="vectors", shape=["B", model.dim])


def _inputs() -> list[Any]:
    from onnx import TensorProto, helper

    shapes: dict[str, list[str]] = {
        "ids": ["T"],
        "positions": ["T"],
        "slots": ["B", "S"],
        "places": ["T"],
        "lengths": ["B"],
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, dims) for name, dims in shapes.items()]
    return [*inputs, helper.make_tensor_value_info("ragged", TensorProto.BOOL, [])]


class _Network:
    """Writes one network's nodes; everything between its methods is (T, hidden)."""

    def __init__(self, nodes: Nodes, architecture: Architecture, weights: Weights, linears: Linears) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights
        self._linears = linears

    def hidden_states(self) -> str:
        """The last layer's output for every token."""
        x = self._embeddings()
        attention_inputs = self._slots_of_qkv(), self._attention_bias()
        for layer in range(self._architecture.layers):
            x = self._attention(f"layers.{layer}", x, *attention_inputs)
            x = self._feed_forward(f"layers.{layer}", x)
        return x

    def _tensor(self, name: str) -> str:
        return self._nodes.tensor(name, self._weights[name])

    def _linear(self, x: str, name: str, *, bias: bool = True) -> str:
        return self._linears.linear(x, name, bias=bias)

    def _add_norm(self, x: str, residual: str, name: str) -> str:
        # ONNX Runtime's fused SkipLayerNormalization is six times slower than this pair on CPUs (1.32).
        total = self._nodes.op("Add", x, residual)
        scale, shift = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        return self._nodes.op("LayerNormalization", total, scale, shift, epsilon=self._architecture.norm_eps)

    def _embeddings(self) -> str:
        position = self._weights["embeddings.position"]
        if self._architecture.token_types:
            # All tokens are of type 0, so that its row can be added once and for all.
            position = position + self._weights["embeddings.token_type"][0]
        words = self._nodes.op("Gather", self._tensor("embeddings.word"), "ids")
        places = self._nodes.op("Gather", self._nodes.tensor("embeddings.position", position), "positions")
        return self._add_norm(words, places, "embeddings.norm")

    def _slots_of_qkv(self) -> tuple[str, str, str]:
        """Seen as (3 * T, hidden), the fused product holds q, k, v of token t in rows 3t, 3t + 1, 3t + 2."""
        nodes = self._nodes
        first = nodes.op("Mul", "slots", nodes.constant(3, np.int32))
        return (
            first,
            nodes.op("Add", first, nodes.constant(1, np.int32)),
            nodes.op("Add", first, nodes.constant(2, np.int32)),
        )

    def _attention_bias(self) -> str:
        """(1, heads, S, S) from the distance of two slots, or "" for a network without it."""
        if not self._architecture.relative_buckets:
            return ""
        nodes, max_tokens = self._nodes, self._architecture.max_tokens
        reach = max_tokens - 1
        table = nodes.tensor("bias_by_distance", bias_by_distance(self._weights["relative_bias"], reach))
        size = nodes.op("Gather", nodes.op("Shape", "slots"), nodes.constant(1, np.int64))
        slots = nodes.op("Range", nodes.constant(0, np.int64), size, nodes.constant(1, np.int64))
        rows = nodes.op("Unsqueeze", slots, nodes.constant([1], np.int64))
        distance = nodes.op("Sub", slots, rows)
        # There may be a few slots more than the longest text has tokens; nobody reads what they see.
        ends = nodes.constant(0, np.int64), nodes.constant(2 * reach, np.int64)
        column = nodes.op("Clip", nodes.op("Add", distance, nodes.constant(reach, np.int64)), *ends)
        return nodes.op("Unsqueeze", nodes.op("Gather", table, column, axis=1), nodes.constant([0], np.int64))

    def _attention(self, name: str, x: str, slots: tuple[str, str, str], bias: str) -> str:
        nodes = self._nodes
        rows = nodes.constant([-1, self._architecture.hidden], np.int64)
        fused = nodes.op("Reshape", self._linear(x, f"{name}.qkv", bias=False), rows)
        q, k, v = (nodes.op("Gather", fused, slot) for slot in slots)
        inputs = [q, k, v, self._tensor(f"{name}.qkv.bias")]
        options: dict[str, Any] = {"num_heads": self._architecture.heads, "domain": MICROSOFT}
        kind = "MultiHeadAttention"
        if bias:
            mixed = nodes.op(kind, *inputs, "lengths", bias, **options)
        else:
            mixed = nodes.op(
                "If",
                "ragged",
                then_branch=nodes.branch(kind, *inputs, "lengths", **options),
                else_branch=nodes.branch(kind, *inputs, **options),
            )
        flat = nodes.op("Gather", nodes.op("Reshape", mixed, rows), "places")
        return self._add_norm(self._linear(flat, f"{name}.out"), x, f"{name}.attention_norm")

    def _feed_forward(self, name: str, x: str) -> str:
        inner = self._activation(x, f"{name}.up")
        return self._add_norm(self._linear(inner, f"{name}.down"), x, f"{name}.output_norm")

    def _activation(self, x: str, name: str) -> str:
        nodes, activation = self._nodes, self._architecture.activation
        if activation in ("gelu", "gelu_tanh"):
            kind = "BiasGelu" if activation == "gelu" else "FastGelu"
            plain = self._linear(x, name, bias=False)
            return nodes.op(kind, plain, self._tensor(f"{name}.bias"), domain=MICROSOFT)
        up = self._linear(x, name)
        return nodes.op("Relu", up) if activation == "relu" else nodes.op("Mul", up, nodes.op("Sigmoid", up))
