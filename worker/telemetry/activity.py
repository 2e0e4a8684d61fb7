"""What a worker process is doing: which jobs are in which stage, since when, and how long that may take."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

# A stage may take this many times what is expected of it before it counts as hung.
PATIENCE = 20


class Stage(StrEnum):
    """A stage of a job in a worker, or the event loop that moves jobs from one to the next."""

    PREPARE = "prepare"  # read and tokenized
    WAIT = "wait"  # in no batch, or in one that is not on the device
    DEVICE = "device"
    ANSWER = "answer"  # merged, cast and encoded
    PUBLISH = "publish"  # one try to write the outcome
    LOOP = "loop"


@dataclass(slots=True, eq=False, kw_only=True)
class Work:
    """Work under way on these jobs; it counts as hung `bound_s` after `since_s`."""

    stage: Stage
    jobs: frozenset[str]
    bound_s: float
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """A stage that did not move for `seconds`. One of the `suspects` may be the cause; None: any held job."""

    stage: Stage
    seconds: float
    suspects: frozenset[str] | None


class Activity:
    """The work under way; thread-safe.

    `floor_s` is the least time that any stage may take. Batches come back from the device in order, so the
    time of one begins when the one before it has ended.
    """

    def __init__(self, floor_s: float) -> None:
        self.floor_s = floor_s
        self._under_way: dict[Work, None] = {}  # an ordered set: the oldest first
        self._lock = threading.Lock()

    def begin(self, stage: Stage, *jobs: str, expected_s: float = 0.0, extra_s: float = 0.0) -> Work:
        """Note that work begins, which should take `expected_s`; `extra_s` is added to its bound."""
        bound_s = max(self.floor_s, PATIENCE * expected_s) + extra_s
        work = Work(stage=stage, jobs=frozenset(jobs), bound_s=bound_s, since_s=time.monotonic())
        with self._lock:
            self._under_way[work] = None
        return work

    def end(self, work: Work) -> None:
        """Note that the work has ended, well or not; once is enough."""
        now_s = time.monotonic()
        with self._lock:
            self._under_way.pop(work, None)
            for other in self._under_way:
                # Behind a batch on the device wait other batches, and those in none.
                if work.stage is Stage.DEVICE and other.stage in (Stage.DEVICE, Stage.WAIT):
                    other.since_s = max(other.since_s, now_s)

    @contextmanager
    def during(
        self, stage: Stage, *jobs: str, expected_s: float = 0.0, extra_s: float = 0.0
    ) -> Iterator[None]:
        """Note the work that the block does."""
        work = self.begin(stage, *jobs, expected_s=expected_s, extra_s=extra_s)
        try:
            yield
        finally:
            self.end(work)

    def excuse(self, seconds: float) -> None:
        """Do not count this time: the process did not run, so nothing in it could move."""
        with self._lock:
            for work in self._under_way:
                work.since_s += seconds

    def hang(self) -> Hang | None:
        """The oldest work that is overdue in the first stage that has any, None if all is well."""
        now_s = time.monotonic()
        with self._lock:
            under_way = list(self._under_way)
        on_device = [work for work in under_way if work.stage is Stage.DEVICE]
        late = [work for work in under_way if now_s - work.since_s > work.bound_s]
        for stage in (Stage.DEVICE, Stage.PREPARE, Stage.ANSWER, Stage.LOOP, Stage.PUBLISH, Stage.WAIT):
            found = [work for work in late if work.stage is stage]
            if not found or (stage is Stage.WAIT and on_device):  # it waits for its turn
                continue
            suspects: frozenset[str] | None
            if stage is Stage.LOOP:
                suspects = None
            elif stage in (Stage.PUBLISH, Stage.WAIT):
                suspects = frozenset()  # nothing touches their texts
            else:  # any batch on the device may have hung it
                blamed = on_device if stage is Stage.DEVICE else found
                suspects = frozenset[str]().union(*(work.jobs for work in blamed))
            oldest_s = min(work.since_s for work in found)
            return Hang(stage=stage, seconds=now_s - oldest_s, suspects=suspects)
        return None
