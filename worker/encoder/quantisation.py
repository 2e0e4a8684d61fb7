"""fp8 e4m3, with a scale a row or in one unit for all: a row depends on nothing but itself.

A unit needs no sample of texts: what a norm lets through is bounded, and so is everything behind it. It may
be too large by some powers of two, which costs a format with an exponent nothing until numbers get so small
that they do not matter. Rows before QKV keep scales of their own: there one unit costs MPNet a sixth of its
accuracy, before and behind the up projection almost none (docs/encoder.md).
"""

import math

import torch

from worker.encoder.network import Linear, Norm, Rows, StaticScale, Tensor

LARGEST = 448.0  #: of torch.float8_e4m3fn
_ROUNDING = 1.125  #: what fp8 adds at most to a product of two numbers


def rows_for(reader: Linear | None, x: Tensor, dtype: torch.dtype) -> Rows:
    """`x` (rows, k) in `dtype`, and in fp8 as `reader` wants it."""
    values = x.to(dtype)
    if reader is None or not reader.quantised:
        return Rows(values)
    if reader.unit is None:
        return Rows(values, *quantise_rows(x))
    counted = (x.float() * reader.unit.inverse).clamp(-LARGEST, LARGEST)
    return Rows(values, counted.to(torch.float8_e4m3fn), reader.unit.size)


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """fp8 (rows, k) and float32 scales (rows,) with x = fp8 * scale, the largest of each row kept exact."""
    scale = _scale(x.float().abs().amax(dim=1))
    return (x.float() / scale[:, None]).to(torch.float8_e4m3fn), scale


def quantise_whole(x: Tensor) -> tuple[Tensor, Tensor]:
    """fp8 of x's shape and one float32 scale () with x = fp8 * scale, the largest kept exact."""
    scale = _scale(x.float().abs().amax())
    return (x.float() / scale).to(torch.float8_e4m3fn), scale


def static_scale_of(reach: Tensor) -> StaticScale:
    """The smallest unit in which numbers of up to `reach` () do not saturate; some unit if it is endless."""
    # Endless weights are no error here: what comes of them is found by whoever verifies the vectors.
    limit = float(torch.nan_to_num(reach, nan=1e30, posinf=1e30).clamp(1e-12, 1e30))
    exponent = math.ceil(math.log2(limit * _ROUNDING / LARGEST))
    return StaticScale(size=reach.new_tensor(2.0**exponent), inverse=reach.new_tensor(2.0**-exponent))


def norm_bound(norm: Norm) -> Tensor:
    """The largest number () that can come out of `norm`: no normed row is longer than sqrt(width)."""
    width = len(norm.weight)
    reach = math.sqrt(width) * norm.weight.abs()
    return (reach if norm.bias is None else reach + norm.bias.abs()).amax()


def linear_bound(weight: Tensor, bias: Tensor | None, norm: Norm) -> Tensor:
    """The largest number () that can come out of weight @ norm(x) + bias, by Cauchy and Schwarz."""
    middle = weight.new_zeros(len(weight)) if norm.bias is None else weight @ norm.bias
    if bias is not None:
        middle = middle + bias
    length = torch.linalg.vector_norm(weight * norm.weight, dim=1)
    return (math.sqrt(len(norm.weight)) * length + middle.abs()).amax()


def _scale(largest: Tensor) -> Tensor:
    return largest.clamp_min(1e-12) / LARGEST
