"""The graph for GPUs: the fused operators of ONNX Runtime's CUDA provider, and attention without padding.

Inputs, beside `ids`, `positions`, `slots` and `lengths` of worker/graphs/flat/graph.py:

    token_offset   int32 (B, S)     where each token sits among the B * S slots, then the empty slots
    cumulative     int32 (B + 1,)   where each text begins among the T tokens, and T

Output: vectors float32 (B, dim). Tensors are in the precision asked for; pooling and what follows is float32.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from producer.errors import BackendError
from worker.graphs.builder import MICROSOFT, Graph, Nodes
from worker.graphs.flat.graph import Body
from worker.graphs.flat.heads import Heads
from worker.graphs.flat.linear import ExactLinears, FlatLinears
from worker.graphs.flat.norm import FlatNorms, FusedSums
from worker.graphs.flat.pooling import add_head
from worker.graphs.flat.scores import FlatScoreBiases
from worker.graphs.split_qkv import qkv_apart
from worker.models.architecture import Architecture
from worker.models.model import Model
from worker.models.weights import Weights

_SHAPES: dict[str, list[str]] = {
    "ids": ["T"],
    "positions": ["T"],
    "slots": ["B", "S"],
    "lengths": ["B"],
    "token_offset": ["B", "S"],
    "cumulative": ["C"],
}
_FLOAT = 1  # TensorProto.FLOAT


def build_packed_graph(model: Model, weights: Weights, *, precision: str) -> Graph:
    """The model's graph in fp16 or fp32.

    Raises BackendError for attention that the provider has no kernel for, and for weights beyond fp16.
    """
    from onnx import TensorProto, helper

    network, nodes = model.architecture, Nodes()
    if network.causal or any(network.windows):
        raise BackendError(
            "ONNX Runtime has no packed attention that is causal or has windows; take a torch profile"
        )
    parts = qkv_apart(network, weights, move_values=True)
    narrow = _in_fp16(parts) if precision == "fp16" else parts
    norms, linears = FlatNorms(nodes, network, narrow), ExactLinears(nodes, narrow)
    attention = PackedAttention(
        nodes,
        network,
        narrow,
        linears=linears,
        heads=Heads(nodes, network, narrow, norms, max_tokens=model.max_text_tokens),
        biases=FlatScoreBiases(nodes, network, narrow, max_tokens=model.max_text_tokens),
    )
    sums = FusedSums(nodes, network, narrow, norms, linears)
    body = Body(
        nodes,
        network,
        narrow,
        linears=linears,
        norms=norms,
        sums=sums,
        attention=attention,
        biased_activation=True,
    )
    states = nodes.op("Cast", body.hidden_states(), to=_FLOAT)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, dims) for name, dims in _SHAPES.items()]
    return nodes.finish(inputs, add_head(nodes, states, model), name="vectors", shape=["B", model.dim])


class PackedAttention:
    """Attention over the tokens as they lie; see `Attention`.

    Three products instead of one, and no bias, are what the operator can read where they lie.
    """

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

    def attend(self, x: str, layer: int) -> str:
        """See `Attention`."""
        q, k, v = (self._part(x, f"layers.{layer}.{part}") for part in "qkv")
        parts = self._heads.ready(q, k, v, layer)
        inputs = [*parts, "", "token_offset", "cumulative", self._biases.of_layer(layer)]
        options: dict[str, Any] = {"num_heads": self._architecture.heads, "domain": MICROSOFT}
        return self._nodes.op("PackedMultiHeadAttention", *inputs, **options)

    def _part(self, x: str, name: str) -> str:
        return self._linears.linear(x, name, bias=f"{name}.bias" in self._weights)


def _in_fp16(weights: Weights) -> Mapping[str, Any]:
    largest = float(np.finfo(np.float16).max)
    for name, array in weights.items():
        if np.abs(array).max() > largest:
            raise BackendError(f"tensor {name} overflows fp16; choose an fp32 profile")
    return {name: array.astype(np.float16) for name, array in weights.items()}
