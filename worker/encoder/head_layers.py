"""What follows the pooling, in float32: dense layers, layer norms and normalisation."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from worker.models.dense import ACTIVATIONS, Dense, dense_weights
from worker.models.head import Head, Normalize
from worker.models.layer_norm import LAYER_NORM_EPSILON, LayerNorm, layer_norm_weights
from worker.models.network import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DenseLayer:
    """y = activation(x @ weight.T + bias), all float32."""

    weight: Tensor
    bias: Tensor | None
    activation: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output (n, out) for `x` (n, in)."""
        return self.activation(F.linear(x, self.weight, self.bias))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerNormLayer:
    """LayerNorm over a vector, all float32."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The norm of `x`, of the same shape."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, LAYER_NORM_EPSILON)


HeadLayers = tuple[DenseLayer | LayerNormLayer | Normalize, ...]


def head_layers(head: Head, device: torch.device) -> HeadLayers:
    """The head's modules with their weights on `device`. Raises ModelError for a bad tensor."""
    return tuple(_layer(module, device) for module in head.modules)


def through_head(
    layers: HeadLayers, pooled: Tensor, normalise: Callable[[Tensor], Tensor] = F.normalize
) -> Tensor:
    """The vectors (n, dim) for pooled ones; `normalise` scales rows to unit length."""
    for layer in layers:
        pooled = normalise(pooled) if isinstance(layer, Normalize) else layer(pooled)
    return pooled


def _layer(
    module: Dense | LayerNorm | Normalize, device: torch.device
) -> DenseLayer | LayerNormLayer | Normalize:
    match module:
        case Normalize():
            return module
        case LayerNorm():
            weight, bias = (torch.from_numpy(array.copy()).to(device) for array in layer_norm_weights(module))
            return LayerNormLayer(weight=weight, bias=bias)
    weight, bias = (
        None if array is None else torch.from_numpy(array.copy()).to(device)
        for array in dense_weights(module)
    )
    # The classes without arguments are those that sentence-transformers makes.
    activation = getattr(nn, ACTIVATIONS[module.activation])()
    return DenseLayer(weight=weight, bias=bias, activation=activation)
