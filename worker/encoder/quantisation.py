"""fp8 (e4m3) with a scale per row or one static scale: in both cases rows are independent of each other.

A static scale needs no calibration texts: the output of a norm is bounded, and so is everything computed from
it. The bound may be several powers of two too large, which only costs a floating-point format its smallest
numbers, and these do not matter. Inputs of QKV keep a scale per row: there a static scale costs MPNet a sixth
of its accuracy, but almost nothing for the inputs of the up and down projections (docs/lab/encoder.md).
"""

import math

import torch

from worker.models.network import Linear, Norm, Rows, StaticScale, Tensor
from worker.models.number_formats import FP8_MAX

_ROUNDING = 1.125  #: the largest factor by which rounding to fp8 increases the product of two numbers


def rows_for(reader: Linear | None, x: Tensor, dtype: torch.dtype) -> Rows:
    """`x` (rows, k) in `dtype`, and also in fp8 if `reader` reads fp8."""
    values = x.to(dtype)
    if reader is None or not reader.quantised:
        return Rows(values)
    if reader.static_scale is None:
        return Rows(values, *quantise_rows(x))
    scaled = (x.float() * reader.static_scale.inverse).clamp(-FP8_MAX, FP8_MAX)
    return Rows(values, scaled.to(torch.float8_e4m3fn), reader.static_scale.value)


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """fp8 (rows, k) and float32 scales (rows,) with x = fp8 * scale, exact for each row's largest element."""
    scale = _scale(x.float().abs().amax(dim=1))
    return (x.float() / scale[:, None]).to(torch.float8_e4m3fn), scale


def quantise_tensor(x: Tensor) -> tuple[Tensor, Tensor]:
    """fp8 of x's shape and one float32 scale () with x = fp8 * scale, exact for the largest element."""
    scale = _scale(x.float().abs().amax())
    return (x.float() / scale).to(torch.float8_e4m3fn), scale


def static_scale_for(bound: Tensor) -> StaticScale:
    """The smallest power of two at which numbers up to `bound` () do not saturate; finite for any bound."""
    # Infinite weights are not an error here: verification of the vectors detects them.
    limit = float(torch.nan_to_num(bound, nan=1e30, posinf=1e30).clamp(1e-12, 1e30))
    exponent = math.ceil(math.log2(limit * _ROUNDING / FP8_MAX))
    return StaticScale(value=bound.new_tensor(2.0**exponent), inverse=bound.new_tensor(2.0**-exponent))


def norm_bound(norm: Norm) -> Tensor:
    """An upper bound () of `norm`'s output magnitude: before its weight no row is longer than sqrt(width)."""
    width = len(norm.weight)
    bound = math.sqrt(width) * norm.weight.abs()
    return (bound if norm.bias is None else bound + norm.bias.abs()).amax()


def linear_bound(weight: Tensor, bias: Tensor | None, norm: Norm) -> Tensor:
    """An upper bound () of the magnitude of weight @ norm(x) + bias, by the Cauchy-Schwarz inequality."""
    centre = weight.new_zeros(len(weight)) if norm.bias is None else weight @ norm.bias
    if bias is not None:
        centre = centre + bias
    length = torch.linalg.vector_norm(weight * norm.weight, dim=1)
    return (math.sqrt(len(norm.weight)) * length + centre.abs()).amax()


def _scale(largest: Tensor) -> Tensor:
    return largest.clamp_min(1e-12) / FP8_MAX
