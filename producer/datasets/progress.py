"""How far a run is: what it has, what it had before, and how much there is."""

import time

from producer.bulk import Summary
from producer.contract import Provenance, Reply
from producer.datasets.dataset import Dataset
from producer.datasets.open_part import OpenPart
from producer.datasets.steps import StepReader
from producer.files import Totals


class RunProgress:
    """Counts the rows of a run; those of finished parts and of resumed ones are `earlier`."""

    def __init__(self, dataset: Dataset, reader: StepReader) -> None:
        self._dataset = dataset
        self._reader = reader
        self._started_s = time.monotonic()
        self._sources: dict[Provenance, None] = {}
        self._prompt_name: str | None = None
        self._seen: set[str] = set()
        self._earlier = Totals()
        for part in dataset.finished:
            self._earlier = self._earlier.and_these(
                Totals(
                    num_texts=part.num_rows,
                    num_tokens=part.num_tokens,
                    num_truncated=part.num_truncated,
                    failed=part.failed,
                )
            )
        self._totals = self._earlier
        self._sizes = {source.name: source.size for source in dataset.sources}
        self._rows_by_source: dict[str, int] = {}
        for part in dataset.finished:
            self._rows_by_source[part.source] = self._rows_by_source.get(part.source, 0) + part.num_rows

    def add(self, part: OpenPart, reply: Reply) -> None:
        """Count the rows of a span that was written."""
        if part.name not in self._seen:
            self._seen.add(part.name)
            self._earlier = self._earlier.and_these(part.earlier)
            self._totals = self._totals.and_these(part.earlier)
        self._totals = self._totals.plus(reply)
        self._sources[reply.provenance] = None
        self._prompt_name = reply.prompt_name

    def summary(self) -> Summary:
        """The run so far."""
        totals = self._totals
        return Summary(
            num_texts=totals.num_texts,
            num_tokens=totals.num_tokens,
            num_truncated=totals.num_truncated,
            failed=totals.failed,
            earlier=self._earlier,
            seconds=time.monotonic() - self._started_s,
            sources=tuple(self._sources),
            prompt_name=self._prompt_name,
            estimated_texts=self._estimated(),
        )

    def _estimated(self) -> int | None:
        """All rows of the run: those of inputs that were opened, and by their bytes those of the others."""
        rows = {**self._rows_by_source, **self._reader.rows_by_source()}
        known_bytes = sum(self._sizes.get(name) or 0 for name in rows)
        all_bytes = [size for size in self._sizes.values() if size is not None]
        if not known_bytes or len(all_bytes) < len(self._sizes):
            return None
        known_rows = sum(rows.values())
        return round(known_rows * sum(all_bytes) / known_bytes)
