"""The dense layers after pooling, in float32."""

from dataclasses import dataclass

import torch

from worker.models.dense import dense_weights
from worker.models.head import Head
from worker.models.network import Tensor

_ACTIVATIONS = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DenseLayer:
    """y = activation(x @ weight.T + bias), all float32."""

    weight: Tensor
    bias: Tensor | None
    activation: str

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output (n, out) for `x` (n, in)."""
        return _ACTIVATIONS[self.activation](torch.nn.functional.linear(x, self.weight, self.bias))


def dense_layers(head: Head, device: torch.device) -> tuple[DenseLayer, ...]:
    """The head's dense layers with their weights on `device`. Raises ModelError for a bad tensor."""
    layers = []
    for dense in head.denses:
        weight, bias = (
            None if array is None else torch.from_numpy(array.copy()).to(device)
            for array in dense_weights(dense)
        )
        layers.append(DenseLayer(weight=weight, bias=bias, activation=dense.activation))
    return tuple(layers)
