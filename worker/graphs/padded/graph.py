"""Builds the ONNX graph of a model over padded texts, from token ids to vectors.

For engines that support only standard operators, with every dtype explicit ("strongly typed"). Inputs:

    ids, positions   int32 (B, S)   token ids, and their rows in the position table; any valid one as padding
    lengths          int32 (B,)     the number of tokens of each text, at least 1
    num_unpooled     int32 (B,)     how many at its start are left out of pooling; only of models that leave
                                    out prompts

Output: vectors float32 (B, dim). Linear layers and attention run in the requested precision; norms,
pooling and dense layers in float32. The residual is float32 where no norm bounds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.graphs.builder import Graph, Nodes
from worker.graphs.padded.attention import PaddedAttention
from worker.graphs.padded.inputs import input_dims
from worker.graphs.padded.linear import PaddedLinears, Scales
from worker.graphs.padded.mask import Mask
from worker.graphs.padded.norm import PaddedNorms
from worker.graphs.padded.pooling import add_padded_head
from worker.graphs.padded.scores import PaddedScoreBiases
from worker.models.model import Model
from worker.models.weights import Weights


@dataclass(frozen=True, slots=True, eq=False)
class PaddedGraph:
    """The graph and, by layer name, the value that each linear layer reads."""

    graph: Graph
    linear_inputs: dict[str, str]


def build_padded_graph(
    model: Model, weights: Weights, *, precision: str = "fp32", scales: Scales | None = None
) -> PaddedGraph:
    """The model's graph in fp32, fp16 or fp8; fp8 needs the `scales` of `calibrate`.

    Raises BackendError for an unknown precision, a missing scale, and weights that overflow fp16.
    """
    nodes = Nodes()
    linears = PaddedLinears(nodes, weights, precision=precision, scales=scales or {})
    pools_prompts = model.head.include_prompt
    mask = Mask(nodes, pools_prompts=pools_prompts)
    states = _Network(nodes, model, weights, linears, mask).hidden_states()
    vectors = add_padded_head(nodes, states, model, mask)
    graph = nodes.finish(
        _inputs(input_dims(pools_prompts=pools_prompts)), vectors, name="vectors", shape=["B", model.dim]
    )
    return PaddedGraph(_plain(graph), linears.inputs)


def _inputs(dims: Mapping[str, int]) -> list[Any]:
    from onnx import TensorProto, helper

    shapes = {name: ["B", "S"][:num_dims] for name, num_dims in dims.items()}
    return [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name, shape in shapes.items()]


def _plain(graph: Graph) -> Graph:
    """The graph with only the standard opset 20, the first with Gelu and 8-bit floats."""
    import onnx

    model = onnx.load_from_string(graph.proto)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", 20))
    return Graph(model.SerializeToString(), graph.tensors)


class _Network:
    """Writes one network's nodes; all values between its methods are (B, S, hidden)."""

    def __init__(
        self, nodes: Nodes, model: Model, weights: Weights, linears: PaddedLinears, mask: Mask
    ) -> None:
        self._nodes = nodes
        self._architecture = model.architecture
        self._weights = weights
        self._linears = linears
        self._norms = PaddedNorms(nodes, model.architecture, weights)
        biases = PaddedScoreBiases(nodes, model.architecture, weights, linears, mask)
        self._attention = PaddedAttention(nodes, model, linears, self._norms, biases)

    def hidden_states(self) -> str:
        """The last layer's output for every slot, float32."""
        x = self._embeddings()
        for layer in range(self._architecture.layers):
            x = self._post_norm_layer(x, layer) if self._architecture.post_norm else self._layer(x, layer)
        if self._architecture.post_norm:
            return self._linears.wide(x)
        return self._norms.write(x, "final_norm")

    def _embeddings(self) -> str:
        """In the matmuls' dtype for a post-norm network, else in float32 for the residual."""
        network, linears = self._architecture, self._linears
        words, types = self._weights["embeddings.word"], self._weights.get("embeddings.token_type")
        # All tokens are of type 0, so its row is added to a table.
        if types is not None and network.positions == "rotary":
            words = words + types[0]
        x = self._nodes.op("Gather", linears.tensor("embeddings.word", words), "ids")
        if network.positions == "absolute":
            rows = self._weights["embeddings.position"]
            if types is not None:
                rows = rows + types[0]
            table = linears.tensor("embeddings.position", rows)
            x = self._nodes.op("Add", x, self._nodes.op("Gather", table, "positions"))
        x = linears.wide(x)
        if network.embedding_norm:
            x = self._norms.write(x, "embeddings.norm")
        return linears.narrow(x) if network.post_norm else x

    def _post_norm_layer(self, x: str, layer: int) -> str:
        """Post-norm: the residual is a norm's output, small enough for the matmuls' dtype."""
        name, linears = f"layers.{layer}", self._linears
        branch = linears.write(self._attention.write(x, layer), f"{name}.out")
        x = self._add_norm(branch, x, f"{name}.attention_norm")
        return self._add_norm(self._feed_forward(x, name), x, f"{name}.output_norm")

    def _add_norm(self, branch: str, x: str, norm: str) -> str:
        total = self._linears.wide(self._nodes.op("Add", branch, x))
        return self._linears.narrow(self._norms.write(total, norm))

    def _layer(self, x: str, layer: int) -> str:
        """Pre-norm: each branch reads the normalised residual and is added to the residual itself."""
        name, linears, nodes = f"layers.{layer}", self._linears, self._nodes
        # A norm after the embeddings also serves as the norm before the first branch.
        first = layer == 0 and self._architecture.embedding_norm
        normalised = linears.narrow(x if first else self._norms.write(x, f"{name}.attention_norm"))
        branch = linears.write(self._attention.write(normalised, layer), f"{name}.out")
        x = nodes.op("Add", self._branch(branch, f"{name}.out_norm"), x)
        normalised = linears.narrow(self._norms.write(x, f"{name}.output_norm"))
        return nodes.op("Add", self._branch(self._feed_forward(normalised, name), f"{name}.down_norm"), x)

    def _branch(self, branch: str, norm: str) -> str:
        """A branch's output as it is added to the residual, float32: normalised if the network does that."""
        wide = self._linears.wide(branch)
        return self._norms.write(wide, norm) if self._architecture.branch_norm else wide

    def _feed_forward(self, x: str, name: str) -> str:
        inner = self._linears.write(x, f"{name}.up")
        if self._architecture.gated:
            size = self._architecture.intermediate
            activated, factor = self._nodes.split(inner, [size, size], axis=-1)
            inner = self._nodes.op("Mul", self._activated(activated), factor)
        else:
            inner = self._activated(inner)
        return self._linears.write(inner, f"{name}.down")

    def _activated(self, x: str) -> str:
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
