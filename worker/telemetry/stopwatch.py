"""Measures how long each stage of a job takes."""

import time
from collections import defaultdict


class Stopwatch:
    """Runs from its construction; a lap ends a stage, and a stage may have several laps."""

    def __init__(self) -> None:
        self._started_s = self._lap_s = time.perf_counter()
        self._stages_s: defaultdict[str, float] = defaultdict(float)

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to this stage."""
        now_s = time.perf_counter()
        self._stages_s[stage] += now_s - self._lap_s
        self._lap_s = now_s

    def __getitem__(self, stage: str) -> float:
        """Seconds spent in the stage, 0 if it never ran."""
        return self._stages_s[stage]

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started_s
