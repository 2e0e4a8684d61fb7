"""Selects the waiting texts of the next batch. Pure: no clock, no lock, no future."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from worker.contract import Backend, Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The limits of one batch: its tokens (longest x count if `padded`, else their sum) and its texts."""

    max_tokens: int
    max_texts: int
    padded: bool

    @classmethod
    def of(cls, backend: Backend) -> Self:
        """The limits that a backend states."""
        return cls(
            max_tokens=backend.max_batch_tokens, max_texts=backend.max_batch_texts, padded=backend.padded
        )


def pack(lengths: npt.NDArray[np.int32], *, budget: Budget, num_first: int = 0) -> Indices:
    """Select the next batch by length: positions in `lengths`, int32 (n,) in order of arrival; n > 0.

    The batch always includes the text that has waited longest, so none starves, and around it the texts
    nearest in length, so little is padding. With `num_first` it is built from that many texts at the start,
    and the others only fill it up. Its cost never exceeds the budget, except that a text larger than the
    whole budget goes alone.
    """
    if 0 < num_first < len(lengths):
        first = pack(lengths[:num_first], budget=budget)
        return np.concatenate([first, _fill(lengths.astype(np.int64), first, num_first, budget)])
    order = _ascending(lengths)
    sorted_lengths = lengths[order].astype(np.int64)
    oldest = int(np.flatnonzero(order == 0)[0])
    grow = _grow_padded if budget.padded else _grow_flat
    start, end = grow(sorted_lengths, oldest, budget)
    return order[start : end + 1]


def fill(
    head: npt.NDArray[np.int32], others: Iterable[npt.NDArray[np.int32]], *, budget: Budget
) -> list[int]:
    """Select the next batch in order of arrival: how many texts of the head and of each following job.

    For backends whose cost is the sum of tokens, so that texts may keep their order. The head, whose turn it
    is, gets half of the tokens or all it needs, and whatever the others leave over; always at least one text,
    which goes alone if it is larger than the budget. The others follow in turn until one does not fit
    whole.
    """
    counts = [max(1, _fitting(head, budget.max_tokens // 2, budget.max_texts))]
    room_tokens = budget.max_tokens - int(head[: counts[0]].sum())
    room_texts = budget.max_texts - counts[0]
    for lengths in others:
        count = _fitting(lengths, room_tokens, room_texts)
        counts.append(count)
        room_tokens -= int(lengths[:count].sum())
        room_texts -= count
        if count < len(lengths):
            break
    counts[0] += _fitting(head[counts[0] :], room_tokens, room_texts)
    return counts


def _fitting(lengths: npt.NDArray[np.int32], max_tokens: int, max_texts: int) -> int:
    return int(np.searchsorted(np.cumsum(lengths[:max_texts]), max_tokens, side="right"))


def _ascending(lengths: npt.NDArray[np.int32]) -> Indices:
    """Positions sorted by length, stable."""
    # NumPy's radix sort handles 16 bits only, but is ten times as fast for the texts of eight batches.
    fits = lengths.max() <= np.iinfo(np.uint16).max
    return np.argsort(lengths.astype(np.uint16) if fits else lengths, kind="stable")


def _grow_padded(lengths: npt.NDArray[np.int64], oldest: int, budget: Budget) -> tuple[int, int]:
    """Extend from the oldest text to shorter ones and, if that leaves room, to the longer ones that fit."""
    room = max(1, min(budget.max_texts, budget.max_tokens // max(1, int(lengths[oldest]))))
    start = max(0, oldest - room + 1)
    count = np.arange(oldest + 2 - start, len(lengths) + 1 - start)
    fits = (lengths[oldest + 1 :] * count <= budget.max_tokens) & (count <= budget.max_texts)
    return start, oldest + int(np.count_nonzero(fits))  # both bounds are monotone: those that fit come first


def _grow_flat(lengths: npt.NDArray[np.int64], oldest: int, budget: Budget) -> tuple[int, int]:
    """Extend from the oldest text to shorter ones, then to longer ones, as long as the sum fits."""
    below = np.cumsum(lengths[oldest::-1])
    count_below = max(1, int(np.searchsorted(below, budget.max_tokens, side="right")))
    count_below = min(count_below, budget.max_texts)
    spent = int(below[count_below - 1])
    above = np.cumsum(lengths[oldest + 1 :])
    count_above = int(np.searchsorted(above, budget.max_tokens - spent, side="right"))
    count_above = min(count_above, budget.max_texts - count_below)
    return oldest - count_below + 1, oldest + max(0, count_above)


def _fill(lengths: npt.NDArray[np.int64], first: Indices, start: int, budget: Budget) -> Indices:
    """Texts from `start` on that fit beside `first`: by arrival or, if padded, the longest first."""
    rest = np.arange(start, len(lengths))
    longest, room_texts = int(lengths[first].max()), budget.max_texts - len(first)
    if budget.padded:
        rest = rest[lengths[rest] <= longest]
        rest = rest[np.argsort(-lengths[rest], kind="stable")]
        room_texts = min(room_texts, budget.max_tokens // max(1, longest) - len(first))
    else:
        room_tokens = budget.max_tokens - int(lengths[first].sum())
        room_texts = min(room_texts, int(np.searchsorted(np.cumsum(lengths[rest]), room_tokens, "right")))
    return rest[: max(0, room_texts)]
