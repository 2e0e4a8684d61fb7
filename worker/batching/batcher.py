"""Where texts of many jobs meet: what waits for the device, and who waits for its vectors."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from worker.batching.coalescing import Coalescer, Shared
from worker.batching.packing import Budget, fill, pack
from worker.batching.pending import Batch, Embedded, JobSlice, PendingJob, TextPositions, gather, settle
from worker.contract import FloatArray, Tokens

# For a padded backend texts are chosen from this many batches' worth: enough for like lengths, cheap to sort.
WINDOW_BATCHES = 8
# Jobs with no more texts left go into the next batch whole, where nothing is padded.
SMALL_TEXTS = 64
# After so many turns a job's own texts come first in its batches; before, those of like length from all jobs.
MAX_SHARED_TURNS = 4


class Batcher:
    """Jobs come from the event loop, batches go to the device thread.

    Jobs take turns in being the one a batch is built around, so a large one cannot hold the device alone. Of
    J jobs, one whose texts fill B batches by themselves is done within J x (MAX_SHARED_TURNS + B + 1)
    batches on a padded backend, and within J x (3 B + 1) on another, whatever the others send. A text that
    several jobs want at the same time is computed once. Memory is bounded by whoever submits.
    """

    def __init__(self, budget: Budget, *, dim: int) -> None:
        self.budget = budget
        self._dim = dim
        self._jobs: deque[PendingJob] = deque()  # those with texts that are in no batch yet
        self._unanswered: set[PendingJob] = set()
        self._sharing = Coalescer()
        self._num_arrived = 0
        self._num_taken = 0  # texts that the device has and has not given back
        self._idle: list[asyncio.Future[None]] = []
        self._changed = threading.Condition()
        self._closed: BaseException | None = None

    async def embed(self, tokens: Tokens, *, names: TextPositions | None = None) -> Embedded:
        """The vectors of a job's texts.

        `names` maps what identifies a text, equal only for texts with equal ids, to its position; texts
        named alike in jobs that wait at the same time are computed once. Raises what `close` was given if
        the device goes first.
        """
        job = PendingJob.of(tokens, dim=self._dim, names=names)
        if len(tokens) == 0:
            return Embedded(job.vectors, ())
        with self._changed:
            if self._closed is not None:
                raise self._closed
            job.arrival = self._num_arrived
            self._num_arrived += 1
            self._sharing.join(job)
            if len(job.unpacked):
                self._jobs.append(job)
            self._unanswered.add(job)
            self._changed.notify()
        try:
            return await job.future
        finally:
            with self._changed:
                self._unanswered.discard(job)
                heirs = self._sharing.leave(job)
                self._jobs.extend(heirs.difference(self._jobs))
                self._changed.notify()

    async def drained(self) -> None:
        """Wait until the device has nothing of ours, not even texts of jobs that were cancelled.

        Raises what `close` was given if the device has gone.
        """
        with self._changed:
            if self._closed is not None:
                raise self._closed
            if self._num_taken == 0:
                return
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
        await idle

    def take(self, *, block: bool) -> Batch | None:
        """The next batch; None if nothing waits, or with `block` only when the batcher is closed."""
        with self._changed:
            while True:
                while self._jobs and self._jobs[0].future.done():
                    self._jobs.popleft()  # its job was cancelled: nobody wants the rest
                if self._jobs or self._closed is not None or not block:
                    break
                self._changed.wait()
            if self._closed is not None or not self._jobs:
                return None
            parts = self._pack()
            self._num_taken += sum(len(positions) for _, positions in parts)
        return gather(parts)  # without the lock, for which the event loop would wait

    def deliver(self, batch: Batch, vectors: FloatArray) -> None:
        """Hand each text its row of `vectors` (n, dim); a row that is not finite fails its text."""
        finite, start = _finite_rows(vectors), 0
        done: list[PendingJob] = []
        for (job, positions), shared in zip(batch.parts, self._answered(batch), strict=True):
            rows = slice(start, start + len(positions))
            done += [job] if job.give(positions, vectors[rows], finite[rows]) else []
            for one in shared:
                row = slice(start + one.place, start + one.place + 1)
                one.job.num_shared += 1
                last = one.job.give(np.array([one.position]), vectors[row], finite[row])
                done += [one.job] if last else []
            start = rows.stop
        self._given_back(batch, done)

    def fail(self, batch: Batch, code: str, reason: str) -> None:
        """Answer every text of the batch with a failure."""
        done: list[PendingJob] = []
        for (job, positions), shared in zip(batch.parts, self._answered(batch), strict=True):
            owners = [(job, int(position)) for position in positions]
            for owner, position in [*owners, *((one.job, one.position) for one in shared)]:
                done += [owner] if owner.refuse(position, code, reason) else []
        self._given_back(batch, done)

    def close(self, error: BaseException) -> None:
        """Give out no more batches; every unanswered job, and every later one, fails with `error`."""
        with self._changed:
            self._closed = error
            self._jobs.clear()
            self._changed.notify_all()
            settle([(job.future, error) for job in self._unanswered])
            self._tell_idle(error)

    def _pack(self) -> list[JobSlice]:
        parts = self._like_lengths() if self.budget.padded else self._in_order()
        parts = self._sharing.packed(parts)
        self._jobs.rotate(-1)
        self._jobs = deque(job for job in self._jobs if len(job.unpacked))
        return parts

    def _in_order(self) -> list[JobSlice]:
        """Texts from the front of jobs: beside the head's those of small jobs, then of the oldest."""
        head = self._jobs[0]
        others = [job for job in self._jobs if job is not head and not job.future.done()]
        others.sort(key=lambda job: (len(job.unpacked) > SMALL_TEXTS, job.arrival))
        waiting = (job.lengths[job.unpacked] for job in others)
        counts = fill(head.lengths[head.unpacked], waiting, budget=self.budget)
        parts: list[JobSlice] = []
        for job, count in zip([head, *others], counts, strict=False):
            if count:
                parts.append((job, job.unpacked[:count]))
                job.unpacked = job.unpacked[count:]
        return parts

    def _like_lengths(self) -> list[JobSlice]:
        """Texts nearest in length to the head's oldest, so that little is padding."""
        head = self._jobs[0]
        head.num_turns += 1
        window = list(self._window())
        lengths = np.concatenate([lengths for _, lengths in window])
        num_first = len(head.unpacked) if head.num_turns > MAX_SHARED_TURNS else 0
        chosen = np.zeros(len(lengths), dtype=np.bool_)
        chosen[pack(lengths, budget=self.budget, num_first=num_first)] = True
        parts: list[JobSlice] = []
        start = 0
        for job, its_lengths in window:
            picked = chosen[start : start + len(its_lengths)]
            start += len(its_lengths)
            if picked.any():
                parts.append((job, job.unpacked[picked]))
                job.unpacked = job.unpacked[~picked]
        return parts

    def _window(self) -> Iterator[tuple[PendingJob, npt.NDArray[np.int32]]]:
        """The next jobs, each with the lengths of its texts that are in no batch yet."""
        num_tokens = 0
        head = self._jobs[0]
        for job in self._jobs:
            # The head stays even if it was cancelled this moment: a batch has to have something.
            if job is not head and job.future.done():
                continue
            lengths = job.lengths[job.unpacked]
            yield job, lengths
            num_tokens += int(lengths.sum())
            if num_tokens >= WINDOW_BATCHES * self.budget.max_tokens:
                return

    def _answered(self, batch: Batch) -> list[list[Shared]]:
        """Who else gets the answers of each part."""
        with self._changed:
            return [self._sharing.answered(job, positions) for job, positions in batch.parts]

    def _given_back(self, batch: Batch, done: Sequence[PendingJob]) -> None:
        settle([(job.future, job.embedded) for job in done])
        with self._changed:
            self._num_taken -= len(batch)
            if self._num_taken == 0:
                self._tell_idle(None)

    def _tell_idle(self, outcome: BaseException | None) -> None:
        settle([(idle, outcome) for idle in self._idle])
        self._idle.clear()


def all_finite(vectors: FloatArray) -> bool:
    """Whether there is no NaN and no infinity, told by the sum, in half the time of looking at each.

    False also where finite elements of more than 1e38 overflow together.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(vectors.sum()))


def _finite_rows(vectors: FloatArray) -> npt.NDArray[np.bool_]:
    """Which rows have no NaN and no infinity, bool (n,)."""
    if all_finite(vectors):
        return np.ones(len(vectors), dtype=np.bool_)
    return np.asarray(np.isfinite(vectors).all(axis=1))
