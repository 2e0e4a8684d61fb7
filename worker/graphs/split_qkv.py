"""Splits fused QKV weights, and drops biases that attention does not need."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from worker.models.architecture import Architecture
from worker.models.weights import Weights


def split_qkv(network: Architecture, weights: Weights, *, move_values: bool) -> Mapping[str, Any]:
    """`weights` with `layers.N.q`, `.k` and `.v` in place of `layers.N.qkv`.

    A key bias adds the same number to all scores of a query, which softmax cancels; it is dropped unless keys
    are rotated or normalised after it. A value bias passes through attention unchanged, because attention
    weights sum to one; with `move_values` it is added to the output projection's bias, if there is one.
    """
    split: dict[str, Any] = dict(weights)
    sizes = np.array([network.heads, network.kv_heads, network.kv_heads]) * network.head_dim
    for layer in range(network.layers):
        name = f"layers.{layer}"
        for leaf in ("weight", "bias") if "qkv" in network.biased else ("weight",):
            fused = split.pop(f"{name}.qkv.{leaf}")
            for part, rows in zip("qkv", np.split(fused, np.cumsum(sizes)[:-1]), strict=True):
                split[f"{name}.{part}.{leaf}"] = rows
        if "qkv" not in network.biased:
            continue
        if not network.ropes and not network.head_norm:
            del split[f"{name}.k.bias"]
        if move_values and "out" in network.biased:
            passed = np.repeat(
                split.pop(f"{name}.v.bias").reshape(network.kv_heads, network.head_dim),
                network.heads // network.kv_heads,
                axis=0,
            ).ravel()
            split[f"{name}.out.bias"] = split[f"{name}.out.bias"] + split[f"{name}.out.weight"] @ passed
    return split
