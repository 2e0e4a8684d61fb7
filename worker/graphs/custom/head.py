"""The graph that follows a custom ONNX model: pools its hidden states, or takes its vectors."""

from collections.abc import Sequence

import numpy as np

from worker.graphs.builder import Graph, Nodes
from worker.graphs.flat.pooling import add_head
from worker.graphs.head import unit_length
from worker.models.model import Model


def custom_head(model: Model, shape: Sequence[int], *, element_type: int, pooled: bool) -> Graph:
    """From `states` (B, S, hidden), or (B, size) if `pooled`, to `vectors` float32 (B, dim).

    `shape` and `element_type` (an ONNX data type) are those of the model's output. With hidden states the
    graph also takes `slots` int32 (B, S), the index of each slot's token among all B * S (after the end of a
    text, its last token), and `lengths` int32 (B,).
    """
    from onnx import TensorProto, helper

    nodes = Nodes()
    states, width = nodes.op("Cast", "states", to=TensorProto.FLOAT), int(shape[-1])
    dims = ["B", width] if pooled else ["B", "S", width]
    inputs = [helper.make_tensor_value_info("states", element_type, dims)]
    if pooled:
        vectors = unit_length(nodes, states) if model.head.normalize else states
        return nodes.finish(inputs, vectors, name="vectors", shape=["B", width])
    inputs.append(helper.make_tensor_value_info("slots", TensorProto.INT32, ["B", "S"]))
    inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    flat = nodes.op("Reshape", states, nodes.constant([-1, width], np.int64))
    dim = model.head.dim(width)
    return nodes.finish(inputs, add_head(nodes, flat, model), name="vectors", shape=["B", dim])
