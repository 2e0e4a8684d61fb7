"""Pooling, dense layers and normalisation at the end of a flat ONNX graph."""

from dataclasses import dataclass

import numpy as np

from worker.graphs.builder import MICROSOFT, Nodes
from worker.models.dense import Dense, dense_weights
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
    for index, dense in enumerate(model.head.denses):
        vectors = _dense(nodes, vectors, dense, index)
    return normalize(nodes, vectors) if model.head.normalize else vectors


def _pool(nodes: Nodes, hidden_states: str, pooling: Pooling, tokens: PooledTokens) -> str:
    if pooling in ("cls", "lasttoken"):
        # The last slot of every text refers to its last token, whatever its length.
        column = nodes.constant(0 if pooling == "cls" else -1, np.int64)
        return nodes.op("Gather", hidden_states, nodes.op("Gather", tokens.slots, column, axis=1))
    padded = nodes.op("Gather", hidden_states, tokens.slots)
    if pooling == "max":
        return nodes.op("ReduceMax", padded, nodes.constant([1], np.int64), keepdims=0)
    mask = slot_mask(nodes, tokens)
    total = nodes.op("Squeeze", nodes.op("MatMul", mask, padded), nodes.constant([1], np.int64))
    num_tokens = nodes.op("Cast", _column(nodes, tokens.lengths), to=1)
    divisor = num_tokens if pooling == "mean" else nodes.op("Sqrt", num_tokens)
    return nodes.op("Div", total, divisor)


def slot_mask(nodes: Nodes, tokens: PooledTokens = PooledTokens()) -> str:
    """float32 (B, 1, S): 1 where a slot is within the text, or within its pooled part."""
    size = nodes.op("Gather", nodes.op("Shape", tokens.slots), nodes.constant(1, np.int64))
    start, step = nodes.constant(0, np.int32), nodes.constant(1, np.int32)
    slots = nodes.op("Range", start, nodes.op("Cast", size, to=6), step)
    inside = nodes.op("Less", slots, _column(nodes, tokens.lengths))
    return nodes.op("Unsqueeze", nodes.op("Cast", inside, to=1), nodes.constant([1], np.int64))


def _column(nodes: Nodes, vector: str) -> str:
    return nodes.op("Unsqueeze", vector, nodes.constant([1], np.int64))


def _dense(nodes: Nodes, vectors: str, dense: Dense, index: int) -> str:
    weight, bias = dense_weights(dense)
    tensors = [nodes.tensor(f"dense.{index}.weight", weight)]
    if bias is not None:
        tensors.append(nodes.tensor(f"dense.{index}.bias", bias))
    linear = nodes.op("Gemm", vectors, *tensors, transB=1)
    match dense.activation:
        case "identity":
            return linear
        case "gelu":
            return nodes.op("Gelu", linear, domain=MICROSOFT)
        case "silu":
            return nodes.op("Mul", linear, nodes.op("Sigmoid", linear))
        case "relu":
            return nodes.op("Relu", linear)
        case simple:
            return nodes.op(simple.capitalize(), linear)  # Tanh, Sigmoid


def normalize(nodes: Nodes, vectors: str) -> str:
    """The vectors (B, dim) scaled to unit length."""
    norm = nodes.op("ReduceL2", vectors, nodes.constant([1], np.int64), keepdims=1)
    # As in torch, a zero vector stays zero.
    return nodes.op("Div", vectors, nodes.op("Max", norm, nodes.constant(1e-12, np.float32)))
