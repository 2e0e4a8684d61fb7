"""Builds the ONNX graph for ONNX Runtime's CUDA provider: fused operators, attention without padding.

Inputs, in addition to `ids`, `positions`, `slots` and `lengths` of worker/graphs/flat/graph.py:

    token_offset   int32 (B, S)     the slot of each token among the B * S, then the empty slots
    cumulative     int32 (B + 1,)   the index of each text's first token, then T

and likewise `pooled_slots` and `pooled_lengths` of models that leave prompts out of pooling.

Output: vectors float32 (B, dim). Tensors are in the requested precision, pooling and everything after it
in float32.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from producer.errors import BackendError
from worker.graphs.builder import MICROSOFT, Graph, Nodes
from worker.graphs.flat.graph import Body
from worker.graphs.flat.heads import Heads
from worker.graphs.flat.linear import FlatLinears, FloatLinears
from worker.graphs.flat.norm import FlatNorms, FusedAddNorm
from worker.graphs.flat.pooling import add_head, pooled_tokens
from worker.graphs.flat.scores import FlatScoreBiases
from worker.graphs.split_qkv import split_qkv
from worker.models.architecture import Architecture
from worker.models.model import Model
from worker.models.number_formats import FP16_MAX
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

    Raises BackendError for attention that the provider has no kernel for, and for weights that overflow fp16.
    """
    from onnx import TensorProto, helper

    network, nodes = model.architecture, Nodes()
    if network.causal or any(network.windows) or network.score_cap:
        raise BackendError(
            "ONNX Runtime has no packed attention that is causal, has windows or caps scores; choose a torch "
            "profile"
        )
    parts = split_qkv(network, weights, move_values=True)
    narrow = _in_fp16(parts) if precision == "fp16" else parts
    norms, linears = FlatNorms(nodes, network, narrow), FloatLinears(nodes, narrow)
    attention = PackedAttention(
        nodes,
        network,
        narrow,
        linears=linears,
        heads=Heads(nodes, network, narrow, norms, max_tokens=model.max_text_tokens),
        biases=FlatScoreBiases(nodes, network, narrow, max_tokens=model.max_text_tokens),
    )
    add_norm = FusedAddNorm(nodes, network, narrow, norms, linears)
    body = Body(
        nodes,
        network,
        narrow,
        linears=linears,
        norms=norms,
        add_norm=add_norm,
        attention=attention,
        biased_activation=True,
    )
    states = nodes.op("Cast", body.hidden_states(), to=_FLOAT)
    pooled = pooled_tokens(model.head)
    shapes = _SHAPES | {pooled.slots: ["B", "S"], pooled.lengths: ["B"]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, dims) for name, dims in shapes.items()]
    return nodes.finish(
        inputs, add_head(nodes, states, model, pooled), name="vectors", shape=["B", model.dim]
    )


class PackedAttention:
    """Attention over flat tokens; see `FlatAttention`.

    Queries, keys and values come from three separate matmuls, whose outputs the operator reads in place.
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
        """See `FlatAttention`."""
        q, k, v = (self._part(x, f"layers.{layer}.{part}") for part in "qkv")
        parts = self._heads.prepare(q, k, v, layer)
        inputs = [*parts, "", "token_offset", "cumulative", self._biases.of_layer(layer)]
        network = self._architecture
        options: dict[str, Any] = {"num_heads": network.heads, "domain": MICROSOFT}
        if network.score_divisor:
            options["scale"] = network.score_scale
        return self._nodes.op("PackedMultiHeadAttention", *inputs, **options)

    def _part(self, x: str, name: str) -> str:
        return self._linears.linear(x, name, bias=f"{name}.bias" in self._weights)


def _in_fp16(weights: Weights) -> Mapping[str, Any]:
    for name, array in weights.items():
        if np.abs(array).max() > FP16_MAX:
            raise BackendError(f"tensor {name} overflows fp16; choose an fp32 profile")
    return {name: array.astype(np.float16) for name, array in weights.items()}
