"""Pooling, and the rest of the head, at the end of a flat ONNX graph."""

from dataclasses import dataclass

import numpy as np

from worker.graphs.builder import Nodes
from worker.graphs.head import through_modules
from worker.models.head import Head, Pooling
from worker.models.model import Model


@dataclass(frozen=True, slots=True)
class PooledTokens:
    """Names of the inputs that say which tokens are pooled, in the form of `slots` and `lengths`."""

    slots: str = "slots"
    lengths: str = "lengths"


def pooled_tokens(head: Head) -> PooledTokens:
    """Those of attention, unless the head leaves out prompts: then it needs inputs of its own."""
    return PooledTokens() if head.include_prompt else PooledTokens("pooled_slots", "pooled_lengths")


def add_head(nodes: Nodes, hidden_states: str, model: Model, tokens: PooledTokens) -> str:
    """Pool, project and normalise the token vectors (T, hidden); the result is (B, dim)."""
    pooled = [_pool(nodes, hidden_states, pooling, tokens) for pooling in model.head.poolings]
    vectors = pooled[0] if len(pooled) == 1 else nodes.op("Concat", *pooled, axis=1)
    return through_modules(nodes, vectors, model.head)


def _pool(nodes: Nodes, hidden_states: str, pooling: Pooling, tokens: PooledTokens) -> str:
    if pooling in ("cls", "lasttoken"):
        # The last slot of every text refers to its last token, whatever its length.
        column = nodes.constant(0 if pooling == "cls" else -1, np.int64)
        return nodes.op("Gather", hidden_states, nodes.op("Gather", tokens.slots, column, axis=1))
    padded = nodes.op("Gather", hidden_states, tokens.slots)
    if pooling == "max":
        return nodes.op("ReduceMax", padded, nodes.constant([1], np.int64), keepdims=0)
    weights = _place_weights(nodes, tokens) if pooling == "weightedmean" else slot_mask(nodes, tokens)
    total = nodes.op("Squeeze", nodes.op("MatMul", weights, padded), nodes.constant([1], np.int64))
    if pooling == "weightedmean":
        return nodes.op(
            "Div", total, nodes.op("ReduceSum", weights, nodes.constant([2], np.int64), keepdims=0)
        )
    num_tokens = nodes.op("Cast", _column(nodes, tokens.lengths), to=1)
    divisor = num_tokens if pooling == "mean" else nodes.op("Sqrt", num_tokens)
    return nodes.op("Div", total, divisor)


def slot_mask(nodes: Nodes, tokens: PooledTokens = PooledTokens()) -> str:
    """float32 (B, 1, S): 1 where a slot is within the text, or within its pooled part."""
    inside = nodes.op("Less", _slot_numbers(nodes, tokens), _column(nodes, tokens.lengths))
    return nodes.op("Unsqueeze", nodes.op("Cast", inside, to=1), nodes.constant([1], np.int64))


def _place_weights(nodes: Nodes, tokens: PooledTokens) -> str:
    """float32 (B, 1, S): a token's place in its text, counted from 1; 0 where a slot is outside."""
    places = nodes.op("Add", _slot_numbers(nodes, tokens), nodes.constant(1, np.int32))
    if tokens != PooledTokens():
        num_before = _column(nodes, nodes.op("Sub", "lengths", tokens.lengths))
        places = nodes.op("Unsqueeze", nodes.op("Add", places, num_before), nodes.constant([1], np.int64))
    return nodes.op("Mul", slot_mask(nodes, tokens), nodes.op("Cast", places, to=1))


def _slot_numbers(nodes: Nodes, tokens: PooledTokens) -> str:
    """int32 (S,), from 0."""
    size = nodes.op("Gather", nodes.op("Shape", tokens.slots), nodes.constant(1, np.int64))
    start, step = nodes.constant(0, np.int32), nodes.constant(1, np.int32)
    return nodes.op("Range", start, nodes.op("Cast", size, to=6), step)


def _column(nodes: Nodes, vector: str) -> str:
    return nodes.op("Unsqueeze", vector, nodes.constant([1], np.int64))
