"""A job that waits for its vectors, and batches of texts of such jobs."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from producer.contract import TextFailure
from worker.contract import FloatArray, Indices, Tokens

# The position in a job of each text, by something hashable that is equal only for texts with equal ids.
TextPositions = Mapping[Any, int]

_Outcome = TypeVar("_Outcome")


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A job's vectors, float32 (n, dim), NaN in the rows of failed texts, and why those failed.

    `num_shared` texts were computed for another job at the same time.
    """

    vectors: FloatArray
    failures: tuple[TextFailure, ...]
    num_shared: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class PendingJob:
    """A submitted job until all its texts are answered; `unpacked` are the positions in no batch yet.

    `names` gives the position of each text by what identifies it; empty if the job keeps to itself. `taken`
    are the positions that a batch of its own has, `twins` those whose text other jobs want too.
    `num_turns` counts the batches that were built around it, `arrival` the jobs that came before.
    """

    tokens: Tokens
    vectors: FloatArray
    unpacked: Indices
    num_unanswered: int
    future: asyncio.Future[Embedded]
    names: TextPositions = field(default_factory=dict)
    taken: npt.NDArray[np.bool_]
    answered: npt.NDArray[np.bool_]
    num_turns: int = 0
    arrival: int = 0
    twins: dict[int, "Duplicates"] = field(default_factory=dict)
    failures: list[TextFailure] = field(default_factory=list)
    num_shared: int = 0

    @classmethod
    def of(cls, tokens: Tokens, *, dim: int, names: TextPositions | None) -> Self:
        """All of it to do, for the running event loop."""
        count = len(tokens)
        return cls(
            tokens=tokens,
            vectors=np.empty((count, dim), dtype=np.float32),  # each row is written when it is answered
            unpacked=np.arange(count),
            num_unanswered=count,
            future=asyncio.get_running_loop().create_future(),
            names=names or {},
            taken=np.zeros(count, dtype=np.bool_),
            answered=np.zeros(count, dtype=np.bool_),
        )

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each text."""
        return self.tokens.lengths

    def give(self, positions: Indices, rows: FloatArray, finite: npt.NDArray[np.bool_]) -> bool:
        """Answer these texts, a row that is not `finite` fails its text; True if they were the last."""
        self.vectors[_span(positions)] = rows
        if not finite.all():
            for position in positions[~finite].tolist():
                self._fail(position, "not_finite", "its vector is not finite")
        self.num_unanswered -= len(positions)
        return self.num_unanswered == 0

    def refuse(self, position: int, code: str, reason: str) -> bool:
        """Answer this text with a failure; True if it was the last."""
        self._fail(position, code, reason)
        self.num_unanswered -= 1
        return self.num_unanswered == 0

    @property
    def embedded(self) -> Embedded:
        """What its texts were answered with."""
        failures = tuple(sorted(self.failures, key=lambda one: one.index))
        return Embedded(self.vectors, failures, self.num_shared)

    def _fail(self, position: int, code: str, reason: str) -> None:
        self.vectors[position] = np.nan
        self.failures.append(TextFailure(position, code, reason))


def settle(outcomes: Sequence[tuple[asyncio.Future[_Outcome], _Outcome | BaseException]]) -> None:
    """Answer the waiting coroutines of one event loop from any thread, but for those that have gone.

    All in one step: each wakes the loop, and then the two threads take turns.
    """

    def answer() -> None:
        for future, outcome in outcomes:
            if future.done():
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    if outcomes:
        outcomes[0][0].get_loop().call_soon_threadsafe(answer)


@dataclass(slots=True, eq=False)
class Duplicates:
    """One text in several jobs, at a position in each; `computing` is the job in whose batch it is."""

    members: list[tuple[PendingJob, int]]
    computing: PendingJob | None


JobSlice = tuple[PendingJob, Indices]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Texts of one or more jobs: of each the positions within the job, in the order of `tokens`."""

    parts: tuple[JobSlice, ...]
    tokens: Tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def halves(self) -> tuple["Batch", "Batch"]:
        """The first and the second half of the texts; for batches of two texts or more."""
        middle, seen = len(self) // 2, 0
        first: list[JobSlice] = []
        second: list[JobSlice] = []
        for job, positions in self.parts:
            cut = min(max(middle - seen, 0), len(positions))
            first += [(job, positions[:cut])] if cut else []
            second += [(job, positions[cut:])] if cut < len(positions) else []
            seen += len(positions)
        return gather(first), gather(second)


def gather(parts: list[JobSlice]) -> Batch:
    """The batch of these positions of these jobs, its ids copied together."""
    lengths = np.concatenate([job.lengths[positions] for job, positions in parts])
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    ids = np.concatenate([_ids(job, positions) for job, positions in parts])
    return Batch(tuple(parts), Tokens(ids, offsets))


def _ids(job: PendingJob, positions: Indices) -> npt.NDArray[np.int32]:
    """The ids of some texts of a job, in their order, one after the other, without a loop over texts."""
    offsets, span = job.tokens.offsets, _span(positions)
    if isinstance(span, slice):
        return job.tokens.ids[offsets[span.start] : offsets[span.stop]]
    lengths = job.lengths[positions]
    starts = offsets[positions].astype(np.intp)
    shift = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    ids: npt.NDArray[np.int32] = job.tokens.ids[np.arange(len(shift)) + shift]
    return ids


def _span(positions: Indices) -> slice | Indices:
    """Ascending positions as a slice if none is missing between the first and the last: copied at once."""
    first, count = int(positions[0]), len(positions)
    return slice(first, first + count) if int(positions[-1]) - first == count - 1 else positions
