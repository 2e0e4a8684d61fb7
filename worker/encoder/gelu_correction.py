"""The mean error of tanh GELU, which matmul epilogues compute, relative to exact GELU."""

import torch
import torch.nn.functional as F

from worker.models.network import Norm, Tensor

_RANGE = 6.0  #: standard deviations on either side
_NUM_POINTS = 193


def mean_tanh_error(weight: Tensor, bias: Tensor | None, norm: Norm) -> Tensor:
    """float32 (out,): E[tanh GELU - exact GELU] of weight @ norm(x) + bias, for any x.

    Before its weight and bias, a norm's output has mean 0 and variance 1. If its elements are
    treated as independent normal variables, each output of the layer is normal, and the difference is
    integrated over that distribution. The difference is an even function, so it does not average out: it
    accounts for two thirds of MPNet's error.
    """
    mean = weight.new_zeros(len(weight)) if norm.bias is None else weight @ norm.bias
    if bias is not None:
        mean = mean + bias
    deviation = torch.linalg.vector_norm(weight * norm.weight, dim=1)
    points = torch.linspace(-_RANGE, _RANGE, _NUM_POINTS, device=weight.device)
    density = torch.exp(-points.square() / 2)
    x = mean[:, None] + deviation[:, None] * points
    return (F.gelu(x, approximate="tanh") - F.gelu(x)) @ (density / density.sum())
