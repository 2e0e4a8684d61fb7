"""Texts that several jobs want at the same time: computed once, for whichever job's turn comes first."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from worker.batching.pending import Duplicates, JobSlice, PendingJob
from worker.contract import Indices


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """An answer that also belongs to `job` at `position`; it is the one at `place` of those given."""

    place: int
    job: PendingJob
    position: int


class Coalescer:
    """Who wants each text that is not answered yet. Not locked: its owner does that.

    While a text is in no batch it waits in every job that wants it, so that nobody waits for another
    job's turn; the first batch it is packed into computes it for all.
    """

    def __init__(self) -> None:
        self._jobs: dict[PendingJob, None] = {}  # an ordered set
        self._wanted: set[Hashable] = set()

    def join(self, job: PendingJob) -> None:
        """Note the job's texts; those that the device has already are taken from `unpacked`."""
        # Sets of names, each step one pass in C: a job that shares nothing pays next to nothing.
        if not self._wanted.isdisjoint(job.names):
            taken = self._pair(job, job.names.keys() & self._wanted)
            job.unpacked = _without(job.unpacked, taken)
        self._wanted.update(job.names)
        self._jobs[job] = None

    def packed(self, parts: Sequence[JobSlice]) -> list[JobSlice]:
        """The parts without what is computed already; the device takes them, and nobody else needs to."""
        kept = []
        spared: dict[PendingJob, list[int]] = {}
        for job, chosen in parts:
            positions = chosen
            if job.twins:
                positions = _without(
                    chosen, [at for at, twins in job.twins.items() if twins.computing is not None]
                )
                for at, _ in _common(job, positions):
                    twins = job.twins[at]
                    twins.computing = job
                    for other, position in twins.members:
                        spared.setdefault(other, []).append(position)
            job.taken[positions] = True
            if len(positions):
                kept.append((job, positions))
        for job, given in spared.items():
            job.unpacked = _without(job.unpacked, given)
        return kept

    def answered(self, job: PendingJob, positions: Indices) -> list[Shared]:
        """Who else gets these answers."""
        job.answered[positions] = True
        found: list[Shared] = []
        for at, place in _common(job, positions) if job.twins else ():
            for other, position in job.twins.pop(at).members:
                if other is not job:
                    del other.twins[position]
                    other.answered[position] = True
                    found.append(Shared(place, other, position))
        return found

    def leave(self, job: PendingJob) -> set[PendingJob]:
        """Forget the job; who has to compute again what it was computing for others too."""
        del self._jobs[job]
        self._wanted.difference_update(job.names)
        if job.twins:
            self._wanted.update(name for name, at in job.names.items() if at in job.twins)
        heirs: dict[PendingJob, list[int]] = {}
        for twins in job.twins.values():
            twins.members = [member for member in twins.members if member[0] is not job]
            if twins.computing is job:
                twins.computing = None
                for other, position in twins.members:
                    heirs.setdefault(other, []).append(position)
        job.twins = {}
        for heir, positions in heirs.items():
            heir.unpacked = np.union1d(heir.unpacked, positions)
        return set(heirs)

    def _pair(self, job: PendingJob, names: set[Hashable]) -> list[int]:
        """Put texts beside their equals in other jobs; the positions of those that the device has."""
        taken = []
        for other in self._jobs:
            for name in names & other.names.keys():
                at, position = other.names[name], job.names[name]
                if other.answered[at]:  # too late for that answer
                    continue
                if at not in other.twins:
                    other.twins[at] = Duplicates([(other, at)], other if other.taken[at] else None)
                twins = job.twins[position] = other.twins[at]
                twins.members.append((job, position))
                names.discard(name)
                if twins.computing is not None:
                    taken.append(position)
        return taken


def _without(positions: Indices, left_out: Sequence[int]) -> Indices:
    """Those that are not left out, in their order."""
    return positions[~np.isin(positions, left_out)] if left_out else positions


def _common(job: PendingJob, positions: Indices) -> list[tuple[int, int]]:
    """Those of the positions that other jobs want too, each with its place among them."""
    places = np.full(len(job.taken), -1)
    places[positions] = np.arange(len(positions))
    return [(at, place) for at in job.twins if (place := int(places[at])) >= 0]
