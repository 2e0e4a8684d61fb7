"""A network's weights with queries, keys and values apart, and no bias that attention does not need."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from worker.models.architecture import Architecture
from worker.models.weights import Weights


def qkv_apart(network: Architecture, weights: Weights, *, move_values: bool) -> Mapping[str, Any]:
    """`weights` with `layers.N.q`, `.k` and `.v` in place of `layers.N.qkv`.

    A bias of the keys adds the same to all scores of a query, which softmax does not see; unless keys are
    turned or normed behind it, it is left out. One of the values passes through weights that sum to one as it
    is, and with `move_values` joins the output layer's bias if there is one.
    """
    found: dict[str, Any] = dict(weights)
    sizes = np.array([network.heads, network.kv_heads, network.kv_heads]) * network.head_dim
    for layer in range(network.layers):
        name = f"layers.{layer}"
        for leaf in ("weight", "bias") if "qkv" in network.biased else ("weight",):
            whole = found.pop(f"{name}.qkv.{leaf}")
            for part, rows in zip("qkv", np.split(whole, np.cumsum(sizes)[:-1]), strict=True):
                found[f"{name}.{part}.{leaf}"] = rows
        if "qkv" not in network.biased:
            continue
        if not network.ropes and not network.head_norm:
            del found[f"{name}.k.bias"]
        if move_values and "out" in network.biased:
            passed = np.repeat(
                found.pop(f"{name}.v.bias").reshape(network.kv_heads, network.head_dim),
                network.heads // network.kv_heads,
                axis=0,
            ).ravel()
            found[f"{name}.out.bias"] = found[f"{name}.out.bias"] + found[f"{name}.out.weight"] @ passed
    return found
