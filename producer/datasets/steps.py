"""Reads the inputs of a run: spans of rows to embed, and the ends of parts, in order."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.contract import MAX_BYTES_PER_JOB
from producer.datasets.assembly import Span
from producer.datasets.dataset import Dataset, OnDuplicate, Task
from producer.datasets.digests import Digests, RowFacts, SeenIds, content_of, digests_of
from producer.datasets.earlier import EarlierVectors, rows_of
from producer.datasets.open_part import OpenPart
from producer.datasets.spans import SpanBuilder
from producer.errors import FileError
from producer.files import Reader, RowBatch, open_reader
from producer.locations import STDIN
from producer.locations.sources import source_of

_MAX_NOTES = 10


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next with a part: write a span, or end it; `error` says why its input cannot be read."""

    part: OpenPart | None
    span: Span | None = None
    next_row: int = 0
    is_last: bool = False
    error: FileError | None = None
    task: Task | None = None


class StepReader:
    """The steps of a run, read by one thread; `stop` may be called from any other."""

    def __init__(self, dataset: Dataset, earlier: EarlierVectors, *, batch_texts: int) -> None:
        self._dataset = dataset
        self._settings = dataset.settings
        self._earlier = earlier
        self._batch_texts = batch_texts
        self._reader: Reader | None = None
        self._current: OpenPart | None = None
        self._seen = SeenIds()
        self._rows: dict[str, int] = {}
        self._source_name = ""
        self.num_duplicates = 0
        self.open_parts: list[OpenPart] = []
        self._notes: list[str] = []
        self._num_notes = 0
        if self._settings.on_duplicate is not OnDuplicate.ALL:
            for part in dataset.finished:
                self._seen.add(_ids_of(rows_of(dataset.target, part)))

    def steps(self) -> Generator[Step, None, None]:
        """The steps of all tasks; an input that cannot be read ends its own only."""
        for task in self._dataset.tasks:
            try:
                yield from self._steps_of(task)
            except _Unreadable as failure:
                yield Step(self._current, error=failure.error, task=task)

    def rows_by_source(self) -> Mapping[str, int]:
        """The number of rows of each input that was opened, by its name, as far as it is known."""
        if self._reader is not None and (rows := self._reader.estimated_rows()) is not None:
            self._rows[self._source_name] = rows
        return self._rows

    def new_notes(self) -> list[str]:
        """What was assumed about inputs that were opened since the last call; of many inputs, the first."""
        notes, self._notes = self._notes[: max(0, _MAX_NOTES - self._num_notes)], []
        self._num_notes += len(notes)
        return notes

    def stop(self) -> None:
        """End a read that waits for input."""
        if self._reader is not None:
            self._reader.stop()

    def _steps_of(self, task: Task) -> Iterator[Step]:
        settings = self._settings
        self._current = None
        with _unreadable():
            reader = open_reader(
                task.source, settings.input_format, columns=settings.columns, dialect=settings.dialect
            )
        with reader:
            self.rows_by_source()  # a last look at the one before
            self._reader, self._source_name = reader, task.source.name
            self._notes += reader.notes
            number, part = task.first_number, self._open(task, reader, task.first_number, task.first_row)
            next_row, spans = part.next_row, SpanBuilder(self._earlier, max_texts=self._batch_texts)
            left = None if settings.rows_per_file is None else settings.rows_per_file - part.num_rows_earlier
            for batch in self._batches(reader, part):
                start, size = 0, len(batch.ids)
                while start < size:
                    if left == 0:
                        yield from self._ended(part, spans, next_row, is_last=False)
                        number, left = number + 1, settings.rows_per_file
                        part = self._open(task, reader, number, next_row)
                    end = size if left is None else min(size, start + left)
                    yield from (Step(part, span) for span in self._spans(spans, batch.part(start, end), task))
                    next_row, left = batch.first + end, None if left is None else left - (end - start)
                    start = end
            self._check_unchanged(task)
            yield from self._ended(part, spans, next_row, is_last=True)

    def _open(self, task: Task, reader: Reader, number: int, first_row: int) -> OpenPart:
        part = OpenPart(
            task,
            reader,
            target=self._dataset.target,
            settings=self._settings,
            number=number,
            first_row=first_row,
        )
        if part.unusable:
            self._notes.append(f"starting over: {part.unusable}")
        self._current = part
        self.open_parts.append(part)
        return part

    def _batches(self, reader: Reader, part: OpenPart) -> Iterator[RowBatch]:
        """The rows that the part does not have yet."""
        is_stdin = part.task.source.location == STDIN
        skip = 0 if is_stdin else part.next_row
        with _unreadable():
            batches = reader.batches(max_texts=self._batch_texts, max_bytes=MAX_BYTES_PER_JOB, skip=skip)
            yield from after_same_rows(batches, part.earlier_rows()) if is_stdin else batches

    def _ended(self, part: OpenPart, spans: SpanBuilder, next_row: int, *, is_last: bool) -> Iterator[Step]:
        yield from (Step(part, span) for span in spans.rest())
        yield Step(part, next_row=next_row, is_last=is_last)

    def _spans(self, spans: SpanBuilder, batch: RowBatch, task: Task) -> Iterator[Span]:
        digests = digests_of(batch)
        if self._settings.on_duplicate is OnDuplicate.ALL or batch.is_numbered:
            yield from spans.add(batch, digests)
            return
        again = self._seen.add(_ids_of(digests)) & digests["id"].any(axis=1)
        if again.any() and self._settings.on_duplicate is OnDuplicate.FAIL:
            at = int(np.argmax(again))
            raise FileError(
                f"{task.source.location}: row {batch.first + at} has an id that an earlier row has; make ids "
                "unique, or choose with --on-duplicate first or all"
            )
        if self._settings.on_duplicate is OnDuplicate.FAIL and None in batch.ids:
            row = batch.first + batch.ids.index(None)
            raise FileError(
                f"{task.source.location}: row {row} has no id; give every row one, or choose with "
                "--on-duplicate first or all"
            )
        self.num_duplicates += int(again.sum())
        for start, end in _runs(~again):
            yield from spans.add(batch.part(start, end), digests[start:end])

    def _check_unchanged(self, task: Task) -> None:
        with _unreadable():
            if task.source.location != STDIN:
                now = source_of(task.source.address)
                if now.etag_or_mtime != task.source.etag_or_mtime:
                    raise FileError(f"{task.source.location}: changed while it was read; run again")


def after_same_rows(batches: Iterator[RowBatch], earlier: RowFacts) -> Iterator[RowBatch]:
    """The rows behind those that an earlier run has read from standard input, which must be the same.

    Raises FileError if they are not.
    """
    seen = 0
    for batch in batches:
        size = min(len(batch.ids), len(earlier) - seen)
        if size:
            again = content_of(digests_of(batch.part(0, size)))
            differ = (again != content_of(earlier[seen : seen + size])).any(axis=1)
            if differ.any():
                raise FileError(
                    f"standard input: row {seen + int(np.argmax(differ))} is not that which the interrupted "
                    "run has read; give the same input, or start over with --restart"
                )
            seen += size
        if size < len(batch.ids):
            yield batch.part(size, len(batch.ids))
    if seen < len(earlier):
        raise FileError(
            f"standard input: ended after {seen:,} rows, of which the interrupted run has read "
            f"{len(earlier):,}; give the same input, or start over with --restart"
        )


class _Unreadable(Exception):
    """An input that cannot be read; `error` is the sentence."""

    def __init__(self, error: FileError) -> None:
        super().__init__()
        self.error = error


@contextmanager
def _unreadable() -> Iterator[None]:
    """Marks a FileError as one of the input, which ends one task and not the run."""
    try:
        yield
    except FileError as error:
        raise _Unreadable(error) from error


def _ids_of(rows: RowFacts) -> Digests:
    return np.ascontiguousarray(rows["id"], np.uint64)


def _runs(mask: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """The beginnings and ends of the stretches of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
