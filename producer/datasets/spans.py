"""Gathers rows into spans: as much as one job takes, of rows that have to be embedded and others between."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from producer.contract import MAX_BYTES_PER_JOB
from producer.datasets.assembly import Span
from producer.datasets.digests import RowFacts
from producer.datasets.earlier import EarlierVectors
from producer.files import RowBatch
from producer.files.rows import num_bytes_of

_MAX_ROWS_PER_TEXT = 4  # bounds the rows that wait for one job, most of whose vectors are there already


class SpanBuilder:
    """Spans of at most `max_texts` texts or 8 MiB, and four times as many rows."""

    def __init__(self, earlier: EarlierVectors, *, max_texts: int) -> None:
        self._earlier = earlier
        self._max_texts = max_texts
        self._reset()

    def add(self, batch: RowBatch, digests: RowFacts) -> Iterator[Span]:
        """Add rows; yields the spans that are complete without them."""
        numbers = self._earlier.find(digests)
        texts = [batch.texts[at] for at in np.flatnonzero(numbers < 0)]
        num_bytes = sum(map(num_bytes_of, texts))
        if self._rows and (
            len(self._texts) + len(texts) > self._max_texts
            or self._num_bytes + num_bytes > MAX_BYTES_PER_JOB
            or self._num_rows + len(batch.ids) > self._max_texts * _MAX_ROWS_PER_TEXT
        ):
            yield from self.rest()
        self._rows.append(RowBatch(batch.first, batch.ids, [], batch.kept, batch.is_numbered))
        self._digests.append(digests)
        self._numbers.append(numbers)
        self._texts += texts
        self._num_bytes += num_bytes
        self._num_rows += len(batch.ids)

    def rest(self) -> Iterator[Span]:
        """The span of the rows that were added last, if there are any."""
        if self._rows:
            yield Span(
                rows=self._rows,
                digests=np.concatenate(self._digests),
                earlier=np.concatenate(self._numbers),
                texts=self._texts,
            )
        self._reset()

    def _reset(self) -> None:
        self._rows: list[RowBatch] = []
        self._digests: list[RowFacts] = []
        self._numbers: list[npt.NDArray[np.int64]] = []
        self._texts: list[object] = []
        self._num_bytes = self._num_rows = 0
