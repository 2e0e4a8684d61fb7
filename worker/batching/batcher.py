"""Batches texts of many jobs for the runner and hands each job its vectors."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from worker.batching.coalescing import Coalescer, Recipient
from worker.batching.packing import Budget, fill, pack
from worker.batching.pending import (
    Batch,
    Embedded,
    JobSlice,
    Overdue,
    PendingJob,
    TextPositions,
    gather,
    settle,
)
from worker.contract import FloatArray, Tokens

# With padding, texts are chosen from this many batches' worth: enough for similar lengths, cheap to sort.
WINDOW_BATCHES = 8
# Without padding, jobs with no more texts left than this go into the next batch whole.
SMALL_TEXTS = 64
# With padding, a job's own texts come first in its batches after this many turns, until then similar lengths.
MAX_SHARED_TURNS = 4


class Batcher:
    """Takes jobs from the event loop and passes batches to the runner's thread.

    Jobs take turns at being the one a batch is built around, so that a large job cannot monopolise the
    device. Among J jobs, one whose texts fill B batches by themselves is done within
    J x (MAX_SHARED_TURNS + B + 1) batches on a padded backend and within J x (3 B + 1) on any other,
    whatever the others send. A text that several jobs want at the same time is computed once. The number of
    pending texts is not bounded here but by the caller.
    """

    def __init__(self, budget: Budget, *, dim: int) -> None:
        self.budget = budget
        self._dim = dim
        self._jobs: deque[PendingJob] = deque()  # those with waiting texts, in the order of their turns
        self._unanswered: set[PendingJob] = set()
        self._coalescer = Coalescer()
        self._begin_by_s = math.inf  # the earliest deadline of jobs with waiting texts
        self._num_arrived = 0
        self._num_batched = 0  # texts in batches that the runner has not answered
        self._drained: list[asyncio.Future[None]] = []
        self._changed = threading.Condition()
        self._is_waking = False
        self._closed: BaseException | None = None

    async def embed(
        self,
        tokens: Tokens,
        *,
        position_of: TextPositions | None = None,
        begin_by_s: float = math.inf,
        name: str = "",
    ) -> Embedded:
        """Embed the texts of a job, which may have a name.

        `position_of` maps a key of each text, equal only for texts with equal ids, to its position; texts
        with equal keys in concurrent jobs are computed once, and without it the job computes all its texts
        itself. Raises Overdue if no text is in a batch by `begin_by_s`, of the monotonic clock, and the error
        given to `close` if that comes first.
        """
        job = PendingJob.of(tokens, dim=self._dim, position_of=position_of, begin_by_s=begin_by_s, name=name)
        if len(tokens) == 0:
            return Embedded(job.vectors, ())
        with self._changed:
            if self._closed is not None:
                raise self._closed
            job.arrival = self._num_arrived
            self._num_arrived += 1
            self._coalescer.join(job)
            if job.num_waiting:
                self._jobs.append(job)
                self._begin_by_s = min(self._begin_by_s, begin_by_s)
            self._unanswered.add(job)
            if not self._is_waking:
                self._is_waking = True
                job.future.get_loop().call_soon(self._wake)
        try:
            return await job.future
        finally:
            with self._changed:
                self._unanswered.discard(job)
                successors = self._coalescer.leave(job)
                self._jobs.extend(one for one in successors if one not in self._jobs)
                if successors:
                    self._changed.notify()

    def _wake(self) -> None:
        """Wake the runner for all jobs that came in one turn of the event loop, which then share a batch.

        Once, since the runner's thread then competes for the GIL.
        """
        with self._changed:
            self._is_waking = False
            self._changed.notify()

    async def drained(self) -> None:
        """Wait until no batch is on the device, not even one of jobs that were cancelled.

        Raises the error given to `close` if that comes first.
        """
        with self._changed:
            if self._closed is not None:
                raise self._closed
            if self._num_batched == 0:
                return
            drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drained.append(drained)
        await drained

    def next_batch(self, *, block: bool) -> Batch | None:
        """The next batch; None if no text waits, or with `block` only once the batcher is closed."""
        with self._changed:
            while True:
                self._drop_overdue()
                while self._jobs and self._jobs[0].future.done():
                    self._jobs.popleft()  # cancelled: nobody wants the rest
                if self._jobs or self._closed is not None or not block:
                    break
                self._changed.wait()
            if self._closed is not None or not self._jobs:
                return None
            parts = self._pack()
            self._num_batched += sum(len(positions) for _, positions in parts)
        return gather(parts)  # outside the lock, which the event loop may be waiting for

    def deliver(self, batch: Batch, vectors: FloatArray) -> None:
        """Answer each text with its row of `vectors` (n, dim); a row that is not finite fails its text."""
        finite, start = _finite_rows(vectors), 0
        done: list[PendingJob] = []
        for (job, positions), recipients in zip(batch.parts, self._answered(batch), strict=True):
            rows = slice(start, start + len(positions))
            done += [job] if job.write(positions, vectors[rows], finite[rows]) else []
            for one in recipients:
                row = slice(start + one.row, start + one.row + 1)
                one.job.num_coalesced += 1
                last = one.job.write(np.array([one.position]), vectors[row], finite[row])
                done += [one.job] if last else []
            start = rows.stop
        self._settle(batch, done)

    def fail(self, batch: Batch, code: str, reason: str) -> None:
        """Answer every text of the batch with a failure."""
        done: list[PendingJob] = []
        for (job, positions), recipients in zip(batch.parts, self._answered(batch), strict=True):
            owners = [(job, int(position)) for position in positions]
            for owner, position in [*owners, *((one.job, one.position) for one in recipients)]:
                done += [owner] if owner.refuse(position, code, reason) else []
        self._settle(batch, done)

    def close(self, error: BaseException) -> None:
        """Hand out no more batches; every unanswered job, and every later one, fails with `error`."""
        with self._changed:
            self._closed = error
            self._jobs.clear()
            self._changed.notify_all()
            settle([(job.future, error) for job in self._unanswered])
            self._settle_drained(error)

    def _drop_overdue(self) -> None:
        """End the jobs whose deadline has passed unbegun."""
        now_s = time.monotonic()
        if now_s < self._begin_by_s:
            return
        overdue = [job for job in self._jobs if job.is_overdue(now_s)]
        self._jobs = deque(job for job in self._jobs if job not in overdue)
        self._begin_by_s = min(
            (job.begin_by_s for job in self._jobs if now_s < job.begin_by_s), default=math.inf
        )
        settle([(job.future, Overdue()) for job in overdue])

    def _pack(self) -> list[JobSlice]:
        chosen = self._similar_lengths() if self.budget.padded else self._in_order()
        parts = self._coalescer.packed(chosen)
        self._jobs.rotate(-1)
        self._jobs = deque(job for job in self._jobs if job.num_waiting)
        return parts

    def _in_order(self) -> list[JobSlice]:
        """The first waiting texts of jobs: the head's, then those of small jobs, then those of the oldest."""
        head = self._jobs[0]
        others = [job for job in self._jobs if job is not head and not job.future.done()]
        others.sort(key=lambda job: (job.num_waiting > SMALL_TEXTS, job.arrival))
        lengths = (job.lengths[job.waiting] for job in others)
        counts = fill(head.lengths[head.waiting], lengths, budget=self.budget)
        return [
            (job, job.waiting[:count]) for job, count in zip([head, *others], counts, strict=False) if count
        ]

    def _similar_lengths(self) -> list[JobSlice]:
        """The waiting texts nearest in length to the head's oldest, so that little is padding."""
        head = self._jobs[0]
        head.num_turns += 1
        window = list(self._window())
        lengths = np.concatenate([lengths for _, lengths in window])
        num_first = head.num_waiting if head.num_turns > MAX_SHARED_TURNS else 0
        chosen = np.zeros(len(lengths), dtype=np.bool_)
        chosen[pack(lengths, budget=self.budget, num_first=num_first)] = True
        parts: list[JobSlice] = []
        start = 0
        for job, job_lengths in window:
            picked = chosen[start : start + len(job_lengths)]
            start += len(job_lengths)
            if picked.any():
                parts.append((job, job.waiting[picked]))
        return parts

    def _window(self) -> Iterator[tuple[PendingJob, npt.NDArray[np.int32]]]:
        """The next jobs, each with the lengths of its waiting texts."""
        num_tokens = 0
        head = self._jobs[0]
        for job in self._jobs:
            # The head stays even if it was cancelled just now: a batch needs at least one text.
            if job is not head and job.future.done():
                continue
            lengths = job.lengths[job.waiting]
            yield job, lengths
            num_tokens += int(lengths.sum())
            if num_tokens >= WINDOW_BATCHES * self.budget.max_tokens:
                return

    def _answered(self, batch: Batch) -> list[list[Recipient]]:
        """Mark the batch as answered; returns which other jobs get the answers of each part."""
        with self._changed:
            return [self._coalescer.answered(job, positions) for job, positions in batch.parts]

    def _settle(self, batch: Batch, done: Sequence[PendingJob]) -> None:
        """Wake the jobs that are done, and stop counting the batch as on the device."""
        settle([(job.future, job.embedded) for job in done])
        with self._changed:
            self._num_batched -= len(batch)
            if self._num_batched == 0:
                self._settle_drained(None)

    def _settle_drained(self, outcome: BaseException | None) -> None:
        settle([(drained, outcome) for drained in self._drained])
        self._drained.clear()


def all_finite(vectors: FloatArray) -> bool:
    """Whether no element is NaN or infinite, judged by the sum: twice as fast as testing each.

    Also False if the sum of finite elements overflows float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(vectors.sum()))


def _finite_rows(vectors: FloatArray) -> npt.NDArray[np.bool_]:
    """Which rows have no NaN or infinity, bool (n,)."""
    if all_finite(vectors):
        return np.ones(len(vectors), dtype=np.bool_)
    return np.asarray(np.isfinite(vectors).all(axis=1))
