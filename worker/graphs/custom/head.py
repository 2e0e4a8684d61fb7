"""The graph that follows a custom ONNX model: pools its hidden states, or takes its vectors."""

from collections.abc import Sequence

import numpy as np

from worker.graphs.builder import Graph, Nodes
from worker.graphs.flat.pooling import add_head, pooled_tokens
from worker.graphs.head import unit_length
from worker.models.model import Model


def custom_head(model: Model, shape: Sequence[int], *, element_type: int, pooled: bool) -> Graph:
    """From `states` (B, S, hidden), or (B, size) if `pooled`, to `vectors` float32 (B, dim).

    `shape` and `element_type` (an ONNX data type) are those of the model's output. With hidden states the
    graph also takes `slots` int32 (B, S), the index of each slot's token among all B * S (after the end of a
    text, its last token), and `lengths` int32 (B,); of a model that leaves prompts out of pooling, for its
    pooled tokens alone, `pooled_slots` and `pooled_lengths`, and `lengths`.
    """
    from onnx import TensorProto, helper

    nodes = Nodes()
    states, width = nodes.op("Cast", "states", to=TensorProto.FLOAT), int(shape[-1])
    dims = ["B", width] if pooled else ["B", "S", width]
    inputs = [helper.make_tensor_value_info("states", element_type, dims)]
    if pooled:
        vectors = unit_length(nodes, states) if model.head.normalize else states
        return nodes.finish(inputs, vectors, name="vectors", shape=["B", width])
    tokens = pooled_tokens(model.head)
    shapes = {tokens.slots: ["B", "S"], tokens.lengths: ["B"], "lengths": ["B"]}
    inputs += [helper.make_tensor_value_info(name, TensorProto.INT32, axes) for name, axes in shapes.items()]
    flat = nodes.op("Reshape", states, nodes.constant([-1, width], np.int64))
    dim = model.head.dim(width)
    return nodes.finish(inputs, add_head(nodes, flat, model, tokens), name="vectors", shape=["B", dim])
