"""The texts of a job, each once."""

from dataclasses import dataclass

import numpy as np

from worker.contract import Indices


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """The position of each different text by the text itself, in the order of their first appearance.

    `sources` tells for every text given which of them it is, intp (n,); None if no text came twice.
    """

    places: dict[str, int]
    sources: Indices | None

    @property
    def texts(self) -> list[str]:
        """The different texts in their order."""
        return list(self.places)


def distinct(texts: list[str]) -> Distinct:
    """Find texts that repeat; costs two passes in C when none does."""
    places = dict(zip(texts, range(len(texts)), strict=True))
    if len(places) == len(texts):
        return Distinct(places, None)
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return Distinct(places, np.fromiter(map(places.__getitem__, texts), dtype=np.intp, count=len(texts)))
