"""Pooling, and the rest of the head, at the end of a padded graph, in float32."""

import numpy as np

from worker.graphs.builder import Nodes
from worker.graphs.head import through_modules
from worker.graphs.padded.mask import Mask
from worker.models.head import Pooling
from worker.models.model import Model

_LOWEST = float(np.finfo(np.float32).min)


def add_padded_head(nodes: Nodes, states: str, model: Model, mask: Mask) -> str:
    """Pool the token vectors float32 (B, S, hidden), and all that follows; the result is (B, dim)."""
    pooled = [_pool(nodes, states, pooling, mask) for pooling in model.head.poolings]
    vectors = pooled[0] if len(pooled) == 1 else nodes.op("Concat", *pooled, axis=1)
    return through_modules(nodes, vectors, model.head)


def _pool(nodes: Nodes, states: str, pooling: Pooling, mask: Mask) -> str:
    one = nodes.constant([1], np.int64)
    if pooling == "cls" and mask.first:
        return _weighted_sum(nodes, states, nodes.op("Cast", nodes.op("Equal", mask.slots, mask.first), to=1))
    if pooling == "cls":
        return nodes.op("Gather", states, nodes.constant(0, np.int64), axis=1)
    if pooling == "max":
        inside = nodes.op("Unsqueeze", mask.pooled, nodes.constant([2], np.int64))
        padded = nodes.op("Where", inside, states, nodes.constant(_LOWEST, np.float32))
        return nodes.op("ReduceMax", padded, one, keepdims=0)
    if pooling == "lasttoken":
        last = nodes.op("Sub", mask.lengths, nodes.constant(1, np.int32))
        return _weighted_sum(nodes, states, nodes.op("Cast", nodes.op("Equal", mask.slots, last), to=1))
    inside = nodes.op("Cast", mask.pooled, to=1)
    if pooling == "weightedmean":
        # A token's weight is its place in its text, counted from 1.
        places = nodes.op("Add", mask.slots, nodes.constant(1, np.int32))
        weights = nodes.op("Mul", inside, nodes.op("Cast", places, to=1))
        total = nodes.op("ReduceSum", weights, one, keepdims=1)
        return nodes.op("Div", _weighted_sum(nodes, states, weights), total)
    num_tokens = nodes.op("Cast", mask.num_pooled, to=1)
    divisor = num_tokens if pooling == "mean" else nodes.op("Sqrt", num_tokens)
    return nodes.op("Div", _weighted_sum(nodes, states, inside), divisor)


def _weighted_sum(nodes: Nodes, states: str, weights: str) -> str:
    """(B, hidden): the sum over the slots with their `weights` float32 (B, S)."""
    one = nodes.constant([1], np.int64)
    return nodes.op("Squeeze", nodes.op("MatMul", nodes.op("Unsqueeze", weights, one), states), one)
