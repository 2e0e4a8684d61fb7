"""Pending jobs: texts that await their vectors, the state of each, and the batches they are gathered into."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from producer.contract import TextFailure
from worker.contract import FloatArray, Indices, Tokens

# The position of each text of a job by a hashable key; texts with equal keys have equal ids.
TextPositions = Mapping[Any, int]

_Outcome = TypeVar("_Outcome")


class TextState(IntEnum):
    """The state of a text of a pending job. Every text is answered once, which is final."""

    WAITING = 0  # in no batch
    BATCHED = 1  # in a batch of its own job
    COALESCED = 2  # an equal text of another job is in a batch, whose answer serves both
    ANSWERED = 3  # with a vector or a failure


# Plain integers: NumPy takes several times as long to compare with a member of an enumeration.
_WAITING, _BATCHED, _COALESCED, _ANSWERED = map(int, TextState)


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A job's vectors, float32 (n, dim), NaN in the rows of failed texts, and why those failed.

    `num_coalesced` texts got the vector computed for an equal text of another job.
    """

    vectors: FloatArray
    failures: tuple[TextFailure, ...]
    num_coalesced: int = 0


class Overdue(Exception):
    """The deadline of a job passed before any of its texts was in a batch."""


@dataclass(slots=True, eq=False, kw_only=True)
class PendingJob:
    """A submitted job until all its texts are answered.

    `states` int8 (n,) holds the TextState of each text; only the methods of this class change it, and their
    callers hold the batcher's lock. `num_waiting` texts are WAITING, `num_unanswered` have no answer written.
    `position_of` finds a text by its key; empty if the job takes no part in coalescing. `duplicates` are its
    texts that other jobs want too. It must begin by `begin_by_s` of the monotonic clock. `num_turns` counts
    the batches built around it, `arrival` the jobs submitted before it. `name` is that of the job for those
    who look for what hangs.
    """

    name: str
    tokens: Tokens
    vectors: FloatArray
    states: npt.NDArray[np.int8]
    num_waiting: int
    num_unanswered: int
    future: asyncio.Future[Embedded]
    position_of: TextPositions = field(default_factory=dict)
    begin_by_s: float = math.inf
    duplicates: dict[int, "Duplicates"] = field(default_factory=dict)
    num_turns: int = 0
    arrival: int = 0
    failures: list[TextFailure] = field(default_factory=list)
    num_coalesced: int = 0
    _waiting: Indices | None = None  # None: outdated, as `states` has changed

    @classmethod
    def of(
        cls,
        tokens: Tokens,
        *,
        dim: int,
        position_of: TextPositions | None,
        begin_by_s: float = math.inf,
        name: str = "",
    ) -> Self:
        """A job with all texts waiting, to be awaited in the running event loop."""
        count = len(tokens)
        return cls(
            name=name,
            tokens=tokens,
            vectors=np.empty((count, dim), dtype=np.float32),  # each row is written when it is answered
            states=np.zeros(count, dtype=np.int8),
            num_waiting=count,
            num_unanswered=count,
            future=asyncio.get_running_loop().create_future(),
            position_of=position_of or {},
            begin_by_s=begin_by_s,
            _waiting=np.arange(count),
        )

    def is_overdue(self, now_s: float) -> bool:
        """True if its deadline has passed and none of its texts is in a batch."""
        return now_s >= self.begin_by_s and self.num_waiting == len(self.tokens)

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each text, int32 (n,)."""
        return self.tokens.lengths

    @property
    def waiting(self) -> Indices:
        """The positions in state WAITING, ascending."""
        if self._waiting is None:
            self._waiting = (self.states == _WAITING).nonzero()[0]
        return self._waiting

    def among(self, positions: Indices, state: TextState) -> Indices:
        """Those of the positions whose text is in this state, in their order."""
        found: Indices = positions[self.states[positions] == int(state)]
        return found

    def batch(self, positions: Indices) -> None:
        """Put waiting texts, ascending, into a batch of this job."""
        waiting, count = self.waiting, len(positions)
        self.states[positions] = _BATCHED
        self.num_waiting -= count
        # Without padding a batch takes the first waiting texts, so the others are known without a search.
        from_front = self.num_waiting == 0 or positions[-1] == waiting[count - 1]
        self._waiting = waiting[count:] if from_front else None

    def coalesce(self, positions: Indices) -> None:
        """Let waiting texts await the answer of a batch of another job."""
        self.states[positions] = _COALESCED
        self.num_waiting -= len(positions)
        self._waiting = None

    def uncoalesce(self, positions: Indices) -> None:
        """Let coalesced texts wait again: the job whose batch they awaited has gone."""
        self.states[positions] = _WAITING
        self.num_waiting += len(positions)
        self._waiting = None

    def answer(self, positions: Indices) -> None:
        """Mark texts in a batch, of this job or another, as answered; their rows are written later."""
        self.states[positions] = _ANSWERED

    def write(self, positions: Indices, rows: FloatArray, finite: npt.NDArray[np.bool_]) -> bool:
        """Write the rows of answered texts; one that is not `finite` fails its text. True if the job is done.

        This and `refuse` need no lock: only the runner calls them, once for each text.
        """
        self.vectors[_span(positions)] = rows
        if not finite.all():
            for position in positions[~finite].tolist():
                self._fail(position, "not_finite", "its vector is not finite")
        self.num_unanswered -= len(positions)
        return self.num_unanswered == 0

    def refuse(self, position: int, code: str, reason: str) -> bool:
        """Write the failure of an answered text; True if the job is done."""
        self._fail(position, code, reason)
        self.num_unanswered -= 1
        return self.num_unanswered == 0

    @property
    def embedded(self) -> Embedded:
        """The answers to its texts."""
        failures = tuple(sorted(self.failures, key=lambda one: one.index))
        return Embedded(self.vectors, failures, self.num_coalesced)

    def _fail(self, position: int, code: str, reason: str) -> None:
        self.vectors[position] = np.nan
        self.failures.append(TextFailure(position, code, reason))


@dataclass(slots=True, eq=False)
class Duplicates:
    """One text in several jobs, with its position in each."""

    members: list[tuple[PendingJob, int]]


def settle(outcomes: Sequence[tuple[asyncio.Future[_Outcome], _Outcome | BaseException]]) -> None:
    """Set the outcomes of futures of one event loop, from any thread; futures that are done are left alone.

    In one call, since each call wakes the event loop, whose thread then competes for the GIL.
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


# Some texts of a job, by ascending position.
JobSlice = tuple[PendingJob, Indices]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Texts of one or more jobs, part by part in the order of `tokens`."""

    parts: tuple[JobSlice, ...]
    tokens: Tokens

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def jobs(self) -> list[str]:
        """The names of the jobs whose texts these are."""
        return [job.name for job, _ in self.parts]

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
    """The batch of these texts, with their ids copied into one array."""
    lengths = np.concatenate([job.lengths[positions] for job, positions in parts])
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    ids = np.concatenate([_ids(job, positions) for job, positions in parts])
    return Batch(tuple(parts), Tokens(ids, offsets, _num_unpooled(parts)))


def _ids(job: PendingJob, positions: Indices) -> npt.NDArray[np.int32]:
    """The ids of some texts of a job, concatenated without a loop over texts."""
    offsets, span = job.tokens.offsets, _span(positions)
    if isinstance(span, slice):
        return job.tokens.ids[offsets[span.start] : offsets[span.stop]]
    lengths = job.lengths[positions]
    starts = offsets[positions].astype(np.intp)
    shift = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    ids: npt.NDArray[np.int32] = job.tokens.ids[np.arange(len(shift)) + shift]
    return ids


def _num_unpooled(parts: list[JobSlice]) -> npt.NDArray[np.int32] | None:
    """Of the texts of all parts; None if none of these jobs leaves tokens out of pooling."""
    if all(job.tokens.num_unpooled is None for job, _ in parts):
        return None
    found = (
        np.zeros(len(positions), dtype=np.int32)
        if job.tokens.num_unpooled is None
        else job.tokens.num_unpooled[positions]
        for job, positions in parts
    )
    return np.concatenate(list(found))


def _span(positions: Indices) -> slice | Indices:
    """Ascending positions as a slice if they are contiguous: NumPy copies slices faster."""
    first, count = int(positions[0]), len(positions)
    return slice(first, first + count) if int(positions[-1]) - first == count - 1 else positions
