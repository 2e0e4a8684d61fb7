"""A network as an ONNX graph of plain operators over padded texts, ending at the finished vector.

For engines that take standard operators only, every type written out ("strongly typed"). Inputs:

    ids, positions   int32 (B, S)   token ids, their rows of the position table; behind a text any valid ones
    lengths          int32 (B,)     tokens of each text, at least 1

Output: vectors float32 (B, dim). Products, attention and the residual stream are in the precision asked for;
layer norms, pooling, dense layers and the unit length are always in float32.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from producer.errors import BackendError
from worker.architecture import Architecture
from worker.build.linear_precision import Linears, Scales
from worker.build.onnx_nodes import Graph, Nodes
from worker.build.padded_head import add_padded_head
from worker.build.padded_mask import Mask
from worker.encoder.relative_bias import bias_by_distance
from worker.model import Model
from worker.weights import Weights

# Far enough below any score for its exponential to be 0, and within float16 after a score is added.
_MASKED = -30_000.0


@dataclass(frozen=True, slots=True, eq=False)
class PaddedGraph:
    """The graph, and the name of the value that enters each linear layer, by the layer's name."""

    graph: Graph
    linear_inputs: dict[str, str]


def build_padded_graph(
    model: Model, weights: Weights, *, precision: str = "fp32", scales: Scales | None = None
) -> PaddedGraph:
    """The model's graph in fp32, fp16 or fp8; fp8 needs the `scales` of `calibrate`.

    Raises BackendError for a network or a precision that this graph cannot express.
    """
    _check(model.architecture)
    nodes = Nodes()
    linears = Linears(nodes, weights, precision=precision, scales=scales or {})
    mask = Mask(nodes)
    network = _Network(nodes, model.architecture, weights, linears)
    vectors = add_padded_head(nodes, linears.wide(network.hidden_states(mask)), model, mask)
    graph = nodes.finish(_inputs(), vectors, name="vectors", shape=["B", model.dim])
    return PaddedGraph(_plain(graph), linears.inputs)


def _check(architecture: Architecture) -> None:
    known = (
        architecture.positions == "absolute"
        and architecture.post_norm
        and architecture.embedding_norm
        and architecture.norm == "layer"
        and not architecture.gated
    )
    if not known:
        raise BackendError(
            f"TensorRT engines of {architecture.kind} networks cannot be built yet; take another backend"
        )


def _inputs() -> list[Any]:
    from onnx import TensorProto, helper

    shapes: dict[str, list[str]] = {"ids": ["B", "S"], "positions": ["B", "S"], "lengths": ["B"]}
    return [helper.make_tensor_value_info(name, TensorProto.INT32, dims) for name, dims in shapes.items()]


def _plain(graph: Graph) -> Graph:
    """The same graph in the standard operators of opset 20, the first with Gelu and 8-bit floats."""
    import onnx

    model = onnx.load_from_string(graph.proto)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", 20))
    return Graph(model.SerializeToString(), graph.tensors)


class _Network:
    """Writes one network's nodes; everything between its methods is (B, S, hidden)."""

    def __init__(self, nodes: Nodes, architecture: Architecture, weights: Weights, linears: Linears) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights
        self._linears = linears

    def hidden_states(self, mask: Mask) -> str:
        """The last layer's output for every slot."""
        x = self._embeddings()
        biases = [self._mask_bias(mask)]
        if self._architecture.relative_buckets:
            biases.append(self._relative_bias(mask))
        for layer in range(self._architecture.layers):
            name = f"layers.{layer}"
            mixed = self._attention(name, x, biases)
            x = self._add_norm(self._linears.write(mixed, f"{name}.out"), x, f"{name}.attention_norm")
            inner = self._activation(self._linears.write(x, f"{name}.up"))
            x = self._add_norm(self._linears.write(inner, f"{name}.down"), x, f"{name}.output_norm")
        return x

    def _embeddings(self) -> str:
        position = self._weights["embeddings.position"]
        if self._architecture.token_types:
            # All tokens are of type 0, so that its row can be added once and for all.
            position = position + self._weights["embeddings.token_type"][0]
        table = self._linears.tensor("embeddings.word", self._weights["embeddings.word"])
        words = self._nodes.op("Gather", table, "ids")
        rows = self._nodes.op("Gather", self._linears.tensor("embeddings.position", position), "positions")
        return self._add_norm(words, rows, "embeddings.norm")

    def _add_norm(self, x: str, residual: str, name: str) -> str:
        nodes = self._nodes
        total = self._linears.wide(nodes.op("Add", x, residual))
        scale, shift = (nodes.tensor(key, self._weights[key]) for key in (f"{name}.weight", f"{name}.bias"))
        epsilon = self._architecture.norm_eps
        return self._linears.narrow(
            nodes.op("LayerNormalization", total, scale, shift, axis=-1, epsilon=epsilon)
        )

    def _attention(self, name: str, x: str, biases: list[str]) -> str:
        nodes, heads, dim = self._nodes, self._architecture.heads, self._architecture.head_dim
        fused = self._linears.write(x, f"{name}.qkv")
        parts = nodes.split(fused, [heads * dim] * 3, axis=-1)
        shape = nodes.constant([0, 0, heads, dim], np.int64)
        q, k, v = (nodes.op("Reshape", part, shape) for part in parts)
        # Scaled before the product, which float16 might not hold otherwise.
        q = nodes.op("Mul", q, self._linears.constant(1 / math.sqrt(dim)))
        q, v = (nodes.op("Transpose", each, perm=[0, 2, 1, 3]) for each in (q, v))
        scores = nodes.op("MatMul", q, nodes.op("Transpose", k, perm=[0, 2, 3, 1]))
        for bias in biases:
            scores = nodes.op("Add", scores, bias)
        mixed = nodes.op("MatMul", nodes.op("Softmax", scores, axis=-1), v)
        rows = nodes.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return nodes.op("Reshape", rows, nodes.constant([0, 0, heads * dim], np.int64))

    def _mask_bias(self, mask: Mask) -> str:
        """(B, 1, 1, S): 0 where a slot has a token, else far below any score."""
        nodes = self._nodes
        inside = nodes.op("Unsqueeze", mask.inside, nodes.constant([1, 2], np.int64))
        zero, low = nodes.constant(0, np.float32), nodes.constant(_MASKED, np.float32)
        return self._linears.narrow(nodes.op("Where", inside, zero, low))

    def _relative_bias(self, mask: Mask) -> str:
        """(1, heads, S, S) from the distance of two slots."""
        nodes, reach = self._nodes, self._architecture.max_tokens - 1
        values = bias_by_distance(self._weights["relative_bias"], reach)
        table = self._linears.tensor("bias_by_distance", values)
        rows = nodes.op("Unsqueeze", mask.slots, nodes.constant([1], np.int64))
        distance = nodes.op("Sub", mask.slots, rows)
        column = nodes.op("Add", distance, nodes.constant(reach, np.int32))
        return nodes.op("Unsqueeze", nodes.op("Gather", table, column, axis=1), nodes.constant([0], np.int64))

    def _activation(self, x: str) -> str:
        nodes = self._nodes
        match self._architecture.activation:
            case "gelu":
                return nodes.op("Gelu", x)
            case "gelu_tanh":
                return nodes.op("Gelu", x, approximate="tanh")
            case "relu":
                return nodes.op("Relu", x)
            case "silu":
                return nodes.op("Mul", x, nodes.op("Sigmoid", x))
