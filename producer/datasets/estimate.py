"""How much there is to embed, from a look at the inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from producer.contract import MAX_BYTES_PER_JOB
from producer.datasets.dataset import DatasetSettings
from producer.files import Source, open_reader

SAMPLE_TEXTS = 256
_MAX_INPUTS = 16  # that are opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Some texts of the inputs, and about how many rows these have; `num_rows` is None if unknown."""

    num_rows: int | None
    num_bytes: int | None
    texts: list[object] = field(repr=False)

    @property
    def mean_characters(self) -> float:
        """Mean length of the texts that are texts."""
        lengths = [len(text) for text in self.texts if isinstance(text, str)]
        return sum(lengths) / max(1, len(lengths))


def sample_inputs(sources: Sequence[Source], settings: DatasetSettings) -> Sample:
    """Read the beginnings of inputs that lie evenly among all. Raises FileError."""
    step = max(1, len(sources) // _MAX_INPUTS)
    chosen = sources[::step][:_MAX_INPUTS]
    texts: list[object] = []
    rows = opened_bytes = 0
    is_known = True
    for source in chosen:
        with open_reader(
            source, settings.input_format, columns=settings.columns, dialect=settings.dialect
        ) as reader:
            most = -(-SAMPLE_TEXTS // len(chosen))
            batch = next(reader.batches(max_texts=most, max_bytes=MAX_BYTES_PER_JOB), None)
            texts += [] if batch is None else batch.texts[: SAMPLE_TEXTS - len(texts)]
            estimated = 0 if batch is None else reader.estimated_rows()
        is_known = is_known and estimated is not None and source.size is not None
        rows, opened_bytes = rows + (estimated or 0), opened_bytes + (source.size or 0)
    sizes = [source.size for source in sources]
    num_bytes = None if None in sizes else sum(size or 0 for size in sizes)
    if not is_known or num_bytes is None:
        return Sample(num_rows=None, num_bytes=num_bytes, texts=texts)
    num_rows = rows if len(chosen) == len(sources) else round(rows * num_bytes / max(1, opened_bytes))
    return Sample(num_rows=num_rows, num_bytes=num_bytes, texts=texts)
