"""The command line of `producer embed`, parsed: what it asks for, in the terms of the rooms below."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from producer.contract import EmbeddingType, EmbedOptions, InputType, Truncate
from producer.datasets import DatasetSettings, OnDuplicate, Shard
from producer.errors import FileError
from producer.files import KEEP_ALL, Columns, Dialect, InputFormat, OutputFormat, Source
from producer.files.formats import output_format
from producer.locations.urls import is_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The parsed command line."""

    inputs: tuple[str, ...]
    output: str
    model: str
    format: InputFormat | None
    output_format: OutputFormat | None
    text_column: str
    template: str | None
    id_column: str | None
    keep_columns: str
    delimiter: str | None
    quote: str | None
    encoding: str | None
    input_type: InputType | None
    prompt_name: str | None
    truncate: Truncate
    dimensions: int | None
    embedding_type: EmbeddingType
    redis_url: str = field(repr=False)
    prefix: str
    run: str | None
    embedded: bool
    restart: bool
    overwrite: bool
    only_new: bool
    retry_failed: bool
    dry_run: bool
    rows_per_file: int | None
    shard: Shard | None
    on_duplicate: OnDuplicate
    batch_texts: int
    max_in_flight: int
    wait_for_worker: float
    quiet: bool

    @property
    def options(self) -> EmbedOptions:
        """Raises InvalidOption."""
        return EmbedOptions(
            input_type=self.input_type,
            prompt_name=self.prompt_name,
            truncate=self.truncate,
            dimensions=self.dimensions,
            embedding_type=self.embedding_type,
        )

    @property
    def columns(self) -> Columns:
        """What to read of every row."""
        columns = Columns(text=self.text_column, template=self.template, id=self.id_column)
        if self.keep_columns == "none":
            return columns
        names = tuple(name for name in self.keep_columns.split(",") if name)
        return replace(columns, keep=KEEP_ALL if self.keep_columns == "all" else names)

    @property
    def dialect(self) -> Dialect:
        """How text files are written down."""
        return Dialect(delimiter=self.delimiter, quote=self.quote, encoding=self.encoding)

    @property
    def dataset(self) -> DatasetSettings:
        """The settings of a run that writes a directory of parts."""
        return DatasetSettings(
            model=self.model,
            options=self.options,
            columns=self.columns,
            dialect=self.dialect,
            input_format=self.format,
            output_format=self.output_format or OutputFormat.PARQUET,
            rows_per_file=self.rows_per_file,
            shard=self.shard,
            on_duplicate=self.on_duplicate,
            only_new=self.only_new,
            retry_failed=self.retry_failed,
            overwrite=self.overwrite,
            restart=self.restart,
        )

    def writes_dataset(self, sources: list[Source]) -> bool:
        """True if OUT is a directory of parts, false if it is one file. Raises FileError if it is neither."""
        if self.output.endswith("/") or os.path.isdir(self.output):
            return True
        is_one = len(sources) == 1 and sources[0].address == self.inputs[0]
        dataset_only = any(
            (self.rows_per_file, self.only_new, self.retry_failed, self.shard, is_url(self.output))
        )
        if is_one and not dataset_only:
            return False
        if _names_a_file(self.output):
            raise FileError(
                f"{self.output}: several inputs, an address, or options such as --rows-per-file make a "
                "directory of parts, but this is the name of a file; end it with / if it is to be a directory"
            )
        return True


def _names_a_file(output: str) -> bool:
    try:
        output_format(Path(output))
    except FileError:
        return False
    return True
