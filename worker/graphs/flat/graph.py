"""Builds the ONNX graph of a model over flat tokens, from token ids to vectors.

Linear layers, norms and activations, nearly all of the work, run on the T tokens of a batch without padding;
only attention and pooling run on B texts x S slots, with the same S for every text. Inputs:

    ids, positions   int32 (T,)     token ids, and their rows in the position table
    slots            int32 (B, S)   the index of each slot's token; after the end of a text, its last token
    places           int32 (T,)     the index of each token's slot among the B * S
    lengths          int32 (B,)     the number of tokens of each text
    ragged           bool ()        whether slots may be empty; if not, attention needs no mask

and of models that leave prompts out of pooling also, for the pooled tokens of each text alone,

    pooled_slots     int32 (B, S)   as `slots`
    pooled_lengths   int32 (B,)     as `lengths`

Output: vectors float32 (B, dim).
"""

from typing import Any

import numpy as np

from worker.graphs.builder import MICROSOFT, Graph, Nodes
from worker.graphs.flat.attention import FlatAttention, SlotAttention
from worker.graphs.flat.heads import Heads
from worker.graphs.flat.linear import FlatLinears, FloatLinears, Int8Linears
from worker.graphs.flat.norm import AddNorm, FlatNorms, PlainAddNorm
from worker.graphs.flat.pooling import PooledTokens, add_head, pooled_tokens
from worker.graphs.flat.scores import FlatScoreBiases
from worker.graphs.split_qkv import split_qkv
from worker.models.architecture import Architecture
from worker.models.model import Model
from worker.models.weights import Weights


def build_graph(model: Model, weights: Weights, *, precision: str = "fp32") -> Graph:
    """The model's graph, its linear layers in `precision` (fp32 or int8); `weights` from `read_weights`."""
    nodes, network = Nodes(), model.architecture
    # Values keep their bias: moving it changes how int8 rounds attention, with no gain on average.
    weights = split_qkv(network, weights, move_values=False)
    linears: FlatLinears = FloatLinears(nodes, weights)
    if precision == "int8":
        linears = Int8Linears(nodes, network, weights, like="ids")
    norms = FlatNorms(nodes, network, weights)
    attention = SlotAttention(
        nodes,
        network,
        weights,
        linears=linears,
        heads=Heads(nodes, network, weights, norms, max_tokens=model.max_text_tokens),
        biases=FlatScoreBiases(nodes, network, weights, max_tokens=model.max_text_tokens),
    )
    add_norm = PlainAddNorm(nodes, network, norms, linears)
    body = Body(nodes, network, weights, linears=linears, norms=norms, add_norm=add_norm, attention=attention)
    pooled = pooled_tokens(model.head)
    vectors = add_head(nodes, body.hidden_states(), model, pooled)
    # The first opset with Attention.
    return nodes.finish(_inputs(pooled), vectors, name="vectors", shape=["B", model.dim], opset=23)


def _inputs(pooled: PooledTokens) -> list[Any]:
    from onnx import TensorProto, helper

    shapes: dict[str, list[str]] = {
        "ids": ["T"],
        "positions": ["T"],
        "slots": ["B", "S"],
        "places": ["T"],
        "lengths": ["B"],
        pooled.slots: ["B", "S"],
        pooled.lengths: ["B"],
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, dims) for name, dims in shapes.items()]
    return [*inputs, helper.make_tensor_value_info("ragged", TensorProto.BOOL, [])]


class Body:
    """Writes a network from its embeddings to its last layer; all values between layers are (T, hidden)."""

    def __init__(
        self,
        nodes: Nodes,
        architecture: Architecture,
        weights: Weights,
        *,
        linears: FlatLinears,
        norms: FlatNorms,
        add_norm: AddNorm,
        attention: FlatAttention,
        biased_activation: bool = False,
    ) -> None:
        """With `biased_activation`, bias and activation are one fused operator where the runtime has one."""
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights
        self._linears = linears
        self._norms = norms
        self._add_norm = add_norm
        self._attention = attention
        self._biased_activation = biased_activation
        self._halves = nodes.constant([architecture.intermediate] * 2, np.int64)

    def hidden_states(self) -> str:
        """The last layer's output for every token."""
        network = self._architecture
        residual = x = self._embeddings()
        if network.layers and not network.embedding_norm:
            x = self._norms.norm(residual, "layers.0.attention_norm")
        for layer in range(network.layers):
            name = f"layers.{layer}"
            after_attention, after_output = f"{name}.attention_norm", f"{name}.output_norm"
            if not network.post_norm:
                # The norm before a branch is the one after the preceding sum.
                last = layer == network.layers - 1
                after_attention = after_output
                after_output = "final_norm" if last else f"layers.{layer + 1}.attention_norm"
            attended = self._attention.attend(x, layer)
            x, total = self._add_norm.write(attended, f"{name}.out", residual, after_attention)
            residual = x if network.post_norm else total
            inner = self._activation(x, f"{name}.up")
            x, total = self._add_norm.write(inner, f"{name}.down", residual, after_output)
            residual = x if network.post_norm else total
        return x

    def _tensor(self, name: str) -> str:
        return self._nodes.tensor(name, self._weights[name])

    def _embeddings(self) -> str:
        nodes, network = self._nodes, self._architecture
        x = nodes.op("Gather", self._tensor("embeddings.word"), "ids")
        # All tokens are of type 0.
        kind = self._weights["embeddings.token_type"][0] if network.token_types else None
        if network.positions == "absolute":
            position = self._weights["embeddings.position"]
            table = nodes.tensor("embeddings.position", position if kind is None else position + kind)
            x = nodes.op("Add", x, nodes.op("Gather", table, "positions"))
        elif kind is not None:
            x = nodes.op("Add", x, nodes.tensor("embeddings.token_type", kind))
        return self._norms.norm(x, "embeddings.norm") if network.embedding_norm else x

    def _activation(self, x: str, name: str) -> str:
        nodes, network = self._nodes, self._architecture
        biased = "up" in network.biased
        fused = self._biased_activation and biased and not network.gated
        if fused and network.activation in ("gelu", "gelu_tanh"):
            kind = "BiasGelu" if network.activation == "gelu" else "FastGelu"
            plain = self._linears.linear(x, name, bias=False)
            return nodes.op(kind, plain, self._tensor(f"{name}.bias"), domain=MICROSOFT)
        up = self._linears.linear(x, name, bias=biased)
        if not network.gated:
            return self._activated(up)
        activated, factor = nodes.ops("Split", up, self._halves, num_outputs=2, axis=1)
        return nodes.op("Mul", self._activated(activated), factor)

    def _activated(self, x: str) -> str:
        nodes = self._nodes
        match self._architecture.activation:
            case "gelu":
                return nodes.op("Gelu", x, domain=MICROSOFT)
            case "gelu_tanh":
                return nodes.op("FastGelu", x, domain=MICROSOFT)
            case "relu":
                return nodes.op("Relu", x)
            case _:
                return nodes.op("Mul", x, nodes.op("Sigmoid", x))
