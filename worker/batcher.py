"""Where texts of many jobs meet: what waits for the device, and who waits for its vectors."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from producer.contract import TextFailure
from worker.backends.contract import FloatArray, Tokens
from worker.packing import Budget, Indices, pack

# Texts are chosen from this many batches' worth: enough for batches of like lengths, cheap to sort.
WINDOW_BATCHES = 8

_Outcome = TypeVar("_Outcome")


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A job's vectors, float32 (n, dim), NaN in the rows of failed texts, and why those failed."""

    vectors: FloatArray
    failures: tuple[TextFailure, ...]


@dataclass(slots=True, eq=False, kw_only=True)
class Waiting:
    """A submitted job until all its texts are answered."""

    tokens: Tokens
    lengths: Indices
    vectors: FloatArray
    unpacked: Indices
    num_unanswered: int
    future: asyncio.Future[Embedded]
    failures: list[TextFailure] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Texts of one or more jobs: of each the positions within the job, in the order of `tokens`."""

    parts: tuple[tuple[Waiting, Indices], ...]
    tokens: Tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def halves(self) -> tuple["Batch", "Batch"]:
        """The first and the second half of the texts; for batches of two texts or more."""
        middle, seen = len(self) // 2, 0
        first: list[tuple[Waiting, Indices]] = []
        second: list[tuple[Waiting, Indices]] = []
        for job, positions in self.parts:
            cut = min(max(middle - seen, 0), len(positions))
            first += [(job, positions[:cut])] if cut else []
            second += [(job, positions[cut:])] if cut < len(positions) else []
            seen += len(positions)
        return _batch(first), _batch(second)


class Batcher:
    """Jobs come from the event loop, batches go to the device thread.

    Jobs take turns in being the one a batch is built around, so a large one cannot hold the device alone.
    Memory is bounded by whoever submits.
    """

    def __init__(self, budget: Budget, *, dim: int) -> None:
        self.budget = budget
        self._dim = dim
        self._jobs: deque[Waiting] = deque()  # those with texts that are in no batch yet
        self._unanswered: set[Waiting] = set()
        self._num_taken = 0  # texts that the device has and nobody has answered yet
        self._idle: list[asyncio.Future[None]] = []
        self._changed = threading.Condition()
        self._closed: BaseException | None = None

    async def embed(self, tokens: Tokens) -> Embedded:
        """The vectors of a job's texts. Raises what `close` was given if the device goes first."""
        count = len(tokens)
        job = Waiting(
            tokens=tokens,
            lengths=tokens.lengths.astype(np.intp),
            vectors=np.full((count, self._dim), np.nan, dtype=np.float32),
            unpacked=np.arange(count),
            num_unanswered=count,
            future=asyncio.get_running_loop().create_future(),
        )
        if count == 0:
            return Embedded(job.vectors, ())
        with self._changed:
            if self._closed is not None:
                raise self._closed
            self._jobs.append(job)
            self._unanswered.add(job)
            self._changed.notify()
        try:
            return await job.future
        finally:
            with self._changed:
                self._unanswered.discard(job)

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
            batch = self._pack()
            self._num_taken += len(batch)
            return batch

    def deliver(self, batch: Batch, vectors: FloatArray) -> None:
        """Hand each text its row of `vectors` (n, dim); a row that is not finite fails its text."""
        row = 0
        for job, positions in batch.parts:
            rows = vectors[row : row + len(positions)]
            row += len(positions)
            job.vectors[positions] = rows
            for position in positions[~np.isfinite(rows).all(axis=1)]:
                job.vectors[position] = np.nan
                job.failures.append(_failure(int(position), "not_finite", "its vector is not finite"))
            self._answered(job, len(positions))
        self._given_back(batch)

    def fail(self, batch: Batch, code: str, reason: str) -> None:
        """Answer every text of the batch with a failure."""
        for job, positions in batch.parts:
            job.failures.extend(_failure(int(position), code, reason) for position in positions)
            self._answered(job, len(positions))
        self._given_back(batch)

    def close(self, error: BaseException) -> None:
        """Give out no more batches; every unanswered job, and every later one, fails with `error`."""
        with self._changed:
            self._closed = error
            self._jobs.clear()
            self._changed.notify_all()
            for job in self._unanswered:
                _settle(job.future, error)
            self._tell_idle(error)

    def _pack(self) -> Batch:
        window = list(self._window())
        lengths = np.concatenate([job.lengths[job.unpacked] for job in window])
        chosen = np.sort(pack(lengths, budget=self.budget))
        starts = np.cumsum([0] + [len(job.unpacked) for job in window])
        parts: list[tuple[Waiting, Indices]] = []
        for job, start, end in zip(window, starts[:-1], starts[1:], strict=True):
            picked = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, end)] - start
            if len(picked):
                parts.append((job, job.unpacked[picked]))
                job.unpacked = np.delete(job.unpacked, picked)
        self._jobs.rotate(-1)
        self._jobs = deque(job for job in self._jobs if len(job.unpacked))
        return _batch(parts)

    def _window(self) -> Iterator[Waiting]:
        num_tokens = 0
        for job in self._jobs:
            if job.future.done():
                continue
            yield job
            num_tokens += int(job.lengths[job.unpacked].sum())
            if num_tokens >= WINDOW_BATCHES * self.budget.max_tokens:
                return

    def _answered(self, job: Waiting, count: int) -> None:
        job.num_unanswered -= count
        if job.num_unanswered == 0:
            failures = tuple(sorted(job.failures, key=lambda one: one.index))
            _settle(job.future, Embedded(job.vectors, failures))

    def _given_back(self, batch: Batch) -> None:
        with self._changed:
            self._num_taken -= len(batch)
            if self._num_taken == 0:
                self._tell_idle(None)

    def _tell_idle(self, outcome: BaseException | None) -> None:
        for idle in self._idle:
            _settle(idle, outcome)
        self._idle.clear()


def _batch(parts: list[tuple[Waiting, Indices]]) -> Batch:
    lengths = np.concatenate([job.lengths[positions] for job, positions in parts])
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    ids = np.concatenate([_gather(job, positions) for job, positions in parts])
    return Batch(tuple(parts), Tokens(ids, offsets))


def _gather(job: Waiting, positions: Indices) -> npt.NDArray[np.int32]:
    """The ids of some texts of a job, one after the other, without a loop over texts."""
    lengths = job.lengths[positions]
    starts = job.tokens.offsets[positions].astype(np.intp)
    shift = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    ids: npt.NDArray[np.int32] = job.tokens.ids[np.arange(len(shift)) + shift]
    return ids


def _settle(future: asyncio.Future[_Outcome], outcome: _Outcome | BaseException) -> None:
    """Answer the waiting coroutine from any thread, unless it has gone."""

    def settle() -> None:
        if future.done():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    future.get_loop().call_soon_threadsafe(settle)


def _failure(index: int, code: str, reason: str) -> TextFailure:
    return TextFailure(index, code, f"text {index}: {reason}")
