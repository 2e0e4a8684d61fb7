"""How much work a worker claims ahead: about two seconds of it, and urgent jobs beside that."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from worker.consumer.leases import Claim

MIN_HELD_BYTES = 64 * 1024  # small jobs are claimed many at a time, however slow the last ones were
SMALL_JOB_BYTES = 8 * 1024  # a full worker takes jobs as small as this beside those it has
URGENT_EVERY_S = 0.25  # how often a full worker looks for them
_HORIZON_S = 2.0  # about as much work is claimed ahead as is done in this time


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a claim may bring: at most so many jobs and bytes; only urgent jobs if `small_bytes` is given."""

    max_jobs: int
    max_bytes: int
    small_bytes: int = 0


class Capacity:
    """Says how much to claim, from what is held and how fast jobs have ended.

    A worker that holds enough still takes small jobs and those of high priority, some at a time, since its
    batches have room for them.
    """

    def __init__(self, max_jobs: int) -> None:
        self._max_jobs = max_jobs
        self._bytes_per_s = 0.0
        self._last_ended_s = time.monotonic()
        self._next_urgent_s = 0.0
        self._urgent: set[Claim] = set()  # those claimed beside others

    def room(self, held: Collection[Claim]) -> Room | None:
        """How much to claim now; None if that is not worth its cost."""
        max_jobs = self._max_jobs - len(held)
        # Several at a time: a claim costs as much for one job as for many.
        if max_jobs < max(1, self._max_jobs // 8):
            return None
        held_bytes = sum(claim.num_bytes for claim in held)
        max_bytes = max(MIN_HELD_BYTES, self._bytes_per_s * _HORIZON_S) - held_bytes
        if len(held) - len(self._urgent) < 2 or max_bytes > 0:
            return Room(max_jobs=max_jobs, max_bytes=max(0, int(max_bytes)))
        now_s = time.monotonic()
        urgent_bytes = sum(claim.num_bytes for claim in self._urgent)
        if now_s < self._next_urgent_s or urgent_bytes >= MIN_HELD_BYTES:
            return None
        self._next_urgent_s = now_s + URGENT_EVERY_S
        return Room(max_jobs=max_jobs, max_bytes=MIN_HELD_BYTES - urgent_bytes, small_bytes=SMALL_JOB_BYTES)

    def claimed(self, claim: Claim, room: Room) -> None:
        """Note a job that was claimed into this room."""
        if room.small_bytes:
            self._urgent.add(claim)

    def ended(self, claim: Claim) -> None:
        """Note that a job has ended here, from which follows how many bytes are done in a second."""
        self._urgent.discard(claim)
        now_s = time.monotonic()
        rate = claim.num_bytes / max(now_s - self._last_ended_s, 1e-3)
        self._last_ended_s = now_s
        self._bytes_per_s += 0.2 * (rate - self._bytes_per_s)  # a moving average
