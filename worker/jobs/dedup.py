"""Deduplicates the texts of a job."""

from dataclasses import dataclass

import numpy as np

from worker.contract import Indices


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """The distinct texts of a job, in the order of their first appearance.

    `position_of` maps each to its position in `texts`. `inverse` intp (n,) gives the position of each text
    of the job; None if no text is repeated.
    """

    texts: list[str]
    position_of: dict[str, int]
    inverse: Indices | None


def distinct(texts: list[str]) -> Distinct:
    """Find the distinct texts; two passes in C if none is repeated."""
    position_of = dict(zip(texts, range(len(texts)), strict=True))
    if len(position_of) == len(texts):
        return Distinct(texts, position_of, None)
    position_of = {text: position for position, text in enumerate(dict.fromkeys(texts))}
    inverse = np.fromiter(map(position_of.__getitem__, texts), dtype=np.intp, count=len(texts))
    return Distinct(list(position_of), position_of, inverse)
