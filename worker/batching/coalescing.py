"""Request coalescing: identical texts of concurrent jobs are computed once."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from worker.batching.pending import Duplicates, JobSlice, PendingJob, TextState
from worker.contract import Indices


@dataclass(frozen=True, slots=True, eq=False)
class Recipient:
    """Another job that gets the answer in row `row` of a part, for its text at `position`."""

    row: int
    job: PendingJob
    position: int


class Coalescer:
    """Finds equal texts among pending jobs. Not thread-safe: the batcher calls it under its lock.

    A text that is in no batch waits in every job that wants it, so that no job depends on another's turn;
    the first batch it is packed into computes it for all.
    """

    def __init__(self) -> None:
        self._jobs: dict[PendingJob, None] = {}  # an ordered set
        self._wanted: set[Hashable] = set()

    def join(self, job: PendingJob) -> None:
        """Register the job; its texts that are in a batch of another job are coalesced with those."""
        # Set operations on keys, each one pass in C: a job without duplicates pays next to nothing.
        if not self._wanted.isdisjoint(job.position_of):
            coalesced = self._link(job, job.position_of.keys() & self._wanted)
            if coalesced:
                job.coalesce(np.array(coalesced, dtype=np.intp))
        self._wanted.update(job.position_of)
        self._jobs[job] = None

    def packed(self, parts: Sequence[JobSlice]) -> list[JobSlice]:
        """Put the parts into a batch, each text once, and coalesce the duplicates of those texts."""
        kept = []
        for job, chosen in parts:
            positions = chosen
            if job.duplicates:
                # An earlier part of this batch may have the text already.
                positions = job.among(chosen, TextState.WAITING)
                self._coalesce_with(job, positions)
            if len(positions):
                job.batch(positions)
                kept.append((job, positions))
        return kept

    def answered(self, job: PendingJob, positions: Indices) -> list[Recipient]:
        """Mark these texts as answered, here and in the jobs that get the same answers."""
        job.answer(positions)
        recipients: list[Recipient] = []
        if not job.duplicates:
            return recipients
        for at, row in _common(job, positions):
            for other, position in job.duplicates.pop(at).members:
                if other is not job:
                    del other.duplicates[position]
                    recipients.append(Recipient(row, other, position))
        for other, its_positions in _by_job((one.job, one.position) for one in recipients):
            other.answer(its_positions)
        return recipients

    def leave(self, job: PendingJob) -> list[PendingJob]:
        """Remove the job; returns the jobs whose texts wait again, having been in a batch of this job."""
        del self._jobs[job]
        self._wanted.difference_update(job.position_of)
        if not job.duplicates:
            return []
        self._wanted.update(key for key, at in job.position_of.items() if at in job.duplicates)
        for duplicates in job.duplicates.values():
            duplicates.members = [member for member in duplicates.members if member[0] is not job]
        positions = np.fromiter(job.duplicates, dtype=np.intp)
        batched = job.among(positions, TextState.BATCHED).tolist()
        successors = _by_job(member for at in batched for member in job.duplicates[at].members)
        for successor, its_positions in successors:
            successor.uncoalesce(its_positions)
        job.duplicates = {}
        return [successor for successor, _ in successors]

    def _coalesce_with(self, job: PendingJob, positions: Indices) -> None:
        """Let the duplicates of these texts await their answers."""
        others = (
            member
            for at, _ in _common(job, positions)
            for member in job.duplicates[at].members
            if member[0] is not job
        )
        for other, its_positions in _by_job(others):
            other.coalesce(its_positions)

    def _link(self, job: PendingJob, keys: set[Hashable]) -> list[int]:
        """Link texts to equal ones in other jobs; returns the positions of those already in a batch."""
        waiting, answered = int(TextState.WAITING), int(TextState.ANSWERED)
        in_batch = []
        for other in self._jobs:
            if not (common := keys & other.position_of.keys()):
                continue
            places = [other.position_of[key] for key in common]
            for key, at, state in zip(common, places, other.states[places].tolist(), strict=True):
                if state == answered:  # too late for that answer
                    continue
                if at not in other.duplicates:
                    other.duplicates[at] = Duplicates([(other, at)])
                position = job.position_of[key]
                duplicates = job.duplicates[position] = other.duplicates[at]
                duplicates.members.append((job, position))
                keys.discard(key)
                if state != waiting:
                    in_batch.append(position)
        return in_batch


def _by_job(members: Iterable[tuple[PendingJob, int]]) -> list[tuple[PendingJob, Indices]]:
    """Group positions by job, in the order in which the jobs first appear."""
    grouped: dict[PendingJob, list[int]] = {}
    for job, position in members:
        grouped.setdefault(job, []).append(position)
    return [(job, np.array(positions, dtype=np.intp)) for job, positions in grouped.items()]


def _common(job: PendingJob, positions: Indices) -> list[tuple[int, int]]:
    """Those of the positions that other jobs want too, each with its row among them."""
    rows = np.full(len(job.states), -1)
    rows[positions] = np.arange(len(positions))
    return [(at, row) for at in job.duplicates if (row := int(rows[at])) >= 0]
