"""Pooling of padded texts, one row per text."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from worker.models.head import Pooling
from worker.models.network import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Padded:
    """Token vectors (n, longest, hidden), a mask bool (n, longest) of real tokens, and lengths int64 (n,)."""

    values: Tensor
    inside: Tensor
    lengths: Tensor


def pooled(texts: Padded, poolings: Sequence[Pooling]) -> Tensor:
    """float32 (n, hidden * poolings): the results of all poolings, concatenated; padding never counts."""
    return torch.cat([_pooled(texts, mode) for mode in poolings], dim=1)


def _pooled(texts: Padded, mode: Pooling) -> Tensor:
    if mode == "cls":
        return texts.values[:, 0].float()
    if mode == "lasttoken":
        rows = torch.arange(len(texts.lengths), device=texts.lengths.device)
        return texts.values[rows, texts.lengths - 1].float()
    outside = ~texts.inside[:, :, None]
    values = texts.values.float()
    if mode == "max":
        return values.masked_fill(outside, float("-inf")).amax(dim=1)
    if mode == "weightedmean":
        # A token's weight is its place in its text, counted from 1.
        places = torch.arange(1, values.shape[1] + 1, device=values.device, dtype=torch.float32)
        values = values * places[None, :, None]
    # Filled rather than multiplied by 0, which would keep NaNs in the padding.
    total = values.masked_fill(outside, 0.0).sum(dim=1)
    lengths = texts.lengths[:, None].float()
    if mode == "weightedmean":
        return total / (lengths * (lengths + 1) / 2)
    return total / lengths ** (1.0 if mode == "mean" else 0.5)
