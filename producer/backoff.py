"""Exponential backoff: how long to wait between a failure and the next try."""

import random
from dataclasses import dataclass

_MAX_DOUBLINGS = 64  # more would overflow a float, and no pause is that long


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses that double from `first_s` up to `max_s`, each scaled by a random factor within `jitter`."""

    first_s: float
    max_s: float
    jitter: tuple[float, float] = (1.0, 1.0)

    def pause_s(self, num_failures: int) -> float:
        """The pause in seconds after `num_failures` consecutive failures, at least 1."""
        doubled_s = self.first_s * 2.0 ** min(num_failures - 1, _MAX_DOUBLINGS)
        return min(self.max_s, doubled_s) * random.uniform(*self.jitter)
