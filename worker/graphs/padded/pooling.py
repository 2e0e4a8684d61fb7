"""Pooling, dense layers and normalisation at the end of a padded graph, in float32."""

import numpy as np

from worker.graphs.builder import Nodes
from worker.graphs.padded.mask import Mask
from worker.models.dense import Dense, dense_weights
from worker.models.head import Pooling
from worker.models.model import Model

_LOWEST = float(np.finfo(np.float32).min)


def add_padded_head(nodes: Nodes, states: str, model: Model, mask: Mask) -> str:
    """Pool, project and normalise the token vectors float32 (B, S, hidden); the result is (B, dim)."""
    pooled = [_pool(nodes, states, pooling, mask) for pooling in model.head.poolings]
    vectors = pooled[0] if len(pooled) == 1 else nodes.op("Concat", *pooled, axis=1)
    for index, dense in enumerate(model.head.denses):
        vectors = _dense(nodes, vectors, dense, index)
    return _normalize(nodes, vectors) if model.head.normalize else vectors


def _pool(nodes: Nodes, states: str, pooling: Pooling, mask: Mask) -> str:
    one = nodes.constant([1], np.int64)
    if pooling == "cls" and mask.first:
        return _weighted_sum(nodes, states, nodes.op("Equal", mask.slots, mask.first))
    if pooling == "cls":
        return nodes.op("Gather", states, nodes.constant(0, np.int64), axis=1)
    if pooling == "max":
        inside = nodes.op("Unsqueeze", mask.pooled, nodes.constant([2], np.int64))
        padded = nodes.op("Where", inside, states, nodes.constant(_LOWEST, np.float32))
        return nodes.op("ReduceMax", padded, one, keepdims=0)
    if pooling == "lasttoken":
        last = nodes.op("Sub", mask.lengths, nodes.constant(1, np.int32))
        return _weighted_sum(nodes, states, nodes.op("Equal", mask.slots, last))
    num_tokens = nodes.op("Cast", mask.num_pooled, to=1)
    divisor = num_tokens if pooling == "mean" else nodes.op("Sqrt", num_tokens)
    return nodes.op("Div", _weighted_sum(nodes, states, mask.pooled), divisor)


def _weighted_sum(nodes: Nodes, states: str, chosen: str) -> str:
    """(B, hidden): the sum over the slots where `chosen` bool (B, S) is true."""
    one = nodes.constant([1], np.int64)
    weights = nodes.op("Unsqueeze", nodes.op("Cast", chosen, to=1), one)
    return nodes.op("Squeeze", nodes.op("MatMul", weights, states), one)


def _dense(nodes: Nodes, vectors: str, dense: Dense, index: int) -> str:
    weight, bias = dense_weights(dense)
    tensors = [nodes.tensor(f"dense.{index}.weight", weight)]
    if bias is not None:
        tensors.append(nodes.tensor(f"dense.{index}.bias", bias))
    linear = nodes.op("Gemm", vectors, *tensors, transB=1)
    match dense.activation:
        case "identity":
            return linear
        case "silu":
            return nodes.op("Mul", linear, nodes.op("Sigmoid", linear))
        case simple:
            return nodes.op(simple.capitalize(), linear)  # Gelu, Relu, Sigmoid, Tanh


def _normalize(nodes: Nodes, vectors: str) -> str:
    norm = nodes.op("ReduceL2", vectors, nodes.constant([1], np.int64), keepdims=1)
    # As in torch, a zero vector stays zero.
    return nodes.op("Div", vectors, nodes.op("Max", norm, nodes.constant(1e-12, np.float32)))
