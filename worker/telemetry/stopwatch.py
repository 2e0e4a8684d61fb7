"""How long each stage of a job took."""

import time
from collections import defaultdict


class Stopwatch:
    """Runs from its making; every lap belongs to the stage that has just ended, and a stage may have many."""

    def __init__(self) -> None:
        self._started_s = self._lap_s = time.perf_counter()
        self._stages_s: defaultdict[str, float] = defaultdict(float)

    def lap(self, stage: str) -> None:
        """What has passed since the last lap was this stage."""
        now_s = time.perf_counter()
        self._stages_s[stage] += now_s - self._lap_s
        self._lap_s = now_s

    def __getitem__(self, stage: str) -> float:
        return self._stages_s[stage]

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._started_s
