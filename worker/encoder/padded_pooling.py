"""Pooling of padded texts, one row per text."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from worker.models.head import Pooling
from worker.models.network import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Padded:
    """Token vectors (n, longest, hidden), and where those to be pooled begin and end in each row.

    `starts` and `ends` are int64 (n,); every text has a token between them.
    """

    values: Tensor
    starts: Tensor
    ends: Tensor

    @property
    def inside(self) -> Tensor:
        """Which tokens are pooled, bool (n, longest)."""
        place = torch.arange(self.values.shape[1], device=self.ends.device)
        return (place >= self.starts[:, None]) & (place < self.ends[:, None])


def pooled(texts: Padded, poolings: Sequence[Pooling]) -> Tensor:
    """float32 (n, hidden * poolings): the results of all poolings, concatenated; padding never counts."""
    return torch.cat([_pooled(texts, mode) for mode in poolings], dim=1)


def _pooled(texts: Padded, mode: Pooling) -> Tensor:
    if mode in ("cls", "lasttoken"):
        rows = torch.arange(len(texts.ends), device=texts.ends.device)
        return texts.values[rows, texts.starts if mode == "cls" else texts.ends - 1].float()
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
    count = (texts.ends - texts.starts)[:, None].float()
    if mode == "weightedmean":
        mean_place = (texts.starts + texts.ends + 1)[:, None].float() / 2
        return total / (count * mean_place)
    return total / count ** (1.0 if mode == "mean" else 0.5)
