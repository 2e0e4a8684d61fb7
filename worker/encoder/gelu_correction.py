"""What GELU's tanh form, which matrix products compute on the way, is off by on average."""

import torch
import torch.nn.functional as F

from worker.encoder.network import Norm, Tensor

_REACH = 6.0  #: standard deviations
_NODES = 193


def mean_tanh_error(weight: Tensor, bias: Tensor | None, norm: Norm) -> Tensor:
    """float32 (out,): E[tanh form - exact GELU] of weight @ norm(x) + bias, for any x.

    Norms leave numbers of mean 0 and variance 1 before their own weight and bias; taking these for normal
    and independent gives each unit a normal distribution, over which the difference is summed. The
    difference is even, so it does not average out by itself: for MPNet two thirds of the error are this.
    """
    middle = weight.new_zeros(len(weight)) if norm.bias is None else weight @ norm.bias
    if bias is not None:
        middle = middle + bias
    deviation = torch.linalg.vector_norm(weight * norm.weight, dim=1)
    nodes = torch.linspace(-_REACH, _REACH, _NODES, device=weight.device)
    density = torch.exp(-nodes.square() / 2)
    at = middle[:, None] + deviation[:, None] * nodes
    return (F.gelu(at, approximate="tanh") - F.gelu(at)) @ (density / density.sum())
