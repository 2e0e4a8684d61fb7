"""What follows the pooling in any graph, in float32 and with standard operators only."""

import math
from typing import Any

import numpy as np

from worker.graphs.builder import Nodes
from worker.models.dense import Dense, dense_weights
from worker.models.head import Head, Normalize
from worker.models.layer_norm import LAYER_NORM_EPSILON, LayerNorm, layer_norm_weights

# Activation -> the operator that computes it, with its attributes; torch's defaults.
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "tanh": ("Tanh", {}),
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "mish": ("Mish", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "hardswish": ("HardSwish", {}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
}
_CLIPPED = {"relu6": (0.0, 6.0), "hardtanh": (-1.0, 1.0)}


def through_modules(nodes: Nodes, pooled: str, head: Head) -> str:
    """The vectors (B, dim) for pooled ones, through the head's modules in their order."""
    x = pooled
    for index, module in enumerate(head.modules):
        match module:
            case Dense():
                x = _dense(nodes, x, module, index)
            case LayerNorm():
                arrays = zip(("weight", "bias"), layer_norm_weights(module), strict=True)
                tensors = [nodes.tensor(f"head.{index}.{leaf}", array) for leaf, array in arrays]
                x = nodes.op("LayerNormalization", x, *tensors, axis=-1, epsilon=LAYER_NORM_EPSILON)
            case Normalize():
                x = unit_length(nodes, x)
    return x


def unit_length(nodes: Nodes, vectors: str) -> str:
    """The vectors (B, dim) scaled to unit length."""
    norm = nodes.op("ReduceL2", vectors, nodes.constant([1], np.int64), keepdims=1)
    # As in torch, a zero vector stays zero.
    return nodes.op("Div", vectors, nodes.op("Max", norm, nodes.constant(1e-12, np.float32)))


def _dense(nodes: Nodes, vectors: str, dense: Dense, index: int) -> str:
    weight, bias = dense_weights(dense)
    tensors = [nodes.tensor(f"head.{index}.weight", weight)]
    if bias is not None:
        tensors.append(nodes.tensor(f"head.{index}.bias", bias))
    return _activated(nodes, nodes.op("Gemm", vectors, *tensors, transB=1), dense.activation)


def _activated(nodes: Nodes, x: str, activation: str) -> str:
    match activation:
        case "identity":
            return x
        case "silu":
            return nodes.op("Mul", x, nodes.op("Sigmoid", x))
        case "gelu":
            # The operator Gelu needs a later opset than all the rest.
            half, root = nodes.constant(0.5, np.float32), nodes.constant(math.sqrt(0.5), np.float32)
            one = nodes.constant(1.0, np.float32)
            share = nodes.op("Add", nodes.op("Erf", nodes.op("Mul", x, root)), one)
            return nodes.op("Mul", nodes.op("Mul", x, half), share)
        case "relu6" | "hardtanh":
            bounds = (nodes.constant(bound, np.float32) for bound in _CLIPPED[activation])
            return nodes.op("Clip", x, *bounds)
    kind, attributes = _ACTIVATIONS[activation]
    return nodes.op(kind, x, **attributes)
