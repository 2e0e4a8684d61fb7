"""What a run reads, what it writes, and which of it is left to do."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from producer.contract import EmbedOptions
from producer.datasets.identity import AskedIdentity, RunIdentity, check_asked
from producer.datasets.manifest import FinishedPart, RunManifest
from producer.datasets.shard import Shard
from producer.datasets.target import Target
from producer.errors import FileError
from producer.files import Columns, Dialect, InputFormat, OutputFormat, Source
from producer.locations import STDIN
from producer.locations.urls import is_url

_COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")


class OnDuplicate(StrEnum):
    """What happens to a row whose id an earlier row of the run had."""

    FAIL = "fail"  #: the run ends, and says which
    FIRST = "first"  #: the later row is left out
    ALL = "all"  #: both are embedded


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSettings:
    """How a run reads and writes; `rows_per_file=None` makes one output part of each input part.

    `only_new` embeds what is new or changed in inputs that changed since they were embedded, and takes the
    other vectors from the output; `overwrite` embeds everything again.
    """

    model: str
    options: EmbedOptions
    columns: Columns
    dialect: Dialect
    input_format: InputFormat | None
    output_format: OutputFormat
    rows_per_file: int | None = None
    shard: Shard | None = None
    on_duplicate: OnDuplicate = OnDuplicate.ALL
    only_new: bool = False
    retry_failed: bool = False
    overwrite: bool = False
    restart: bool = False

    @property
    def identity(self) -> RunIdentity:
        """What the vectors of the run have in common, as far as it is known before it."""
        return RunIdentity(asked=AskedIdentity.of(self.model, self.options))

    @property
    def read(self) -> Mapping[str, str]:
        """What, beside the input's content, determines the rows of a part."""
        columns = self.columns
        keep = columns.keep if isinstance(columns.keep, str) else ",".join(columns.keep)
        return {
            "format": self.input_format or "",
            "text": columns.template or columns.text,
            "id": columns.id or "",
            "keep": keep,
            "dialect": "|".join(
                value or "" for value in (self.dialect.delimiter, self.dialect.quote, self.dialect.encoding)
            ),
            "output_format": self.output_format,
            "on_duplicate": self.on_duplicate,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An input part that is to be embedded: its rows from `first_row` on, into output parts named `stem`.

    `first_number` is how many output parts have its rows before `first_row`.
    """

    source: Source
    stem: str
    first_row: int
    first_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a run has to do: `tasks` in order; `finished` has the parts that stay as they are.

    `replaced` has the earlier parts of inputs that changed: their rows may be taken over. `orphans` has the
    parts whose inputs are not given any more; they stay too.
    """

    target: Target
    settings: DatasetSettings
    manifest: RunManifest
    tasks: tuple[Task, ...]
    sources: tuple[Source, ...]
    finished: tuple[FinishedPart, ...]
    replaced: tuple[FinishedPart, ...]
    orphans: tuple[FinishedPart, ...]


def plan_dataset(sources: Sequence[Source], target: Target, settings: DatasetSettings) -> Dataset:
    """Compare the inputs with what the target holds.

    Raises FileError if the target holds vectors of another identity, if inputs changed and the settings do
    not say what to do about it, or if there is no input.
    """
    sources = [each for each in sources if not _is_below(each.location, target.location)]
    if not sources:
        raise FileError(f"{target.location}: there are no inputs outside of it; choose another output")
    if settings.overwrite and settings.shard is not None:
        raise FileError(
            f"{target.location}: --overwrite with --shard would remove the parts of the other shares; remove "
            "the directory first, and start the shares without it"
        )
    files = target.files()
    manifest = target.manifest(settings.identity, files)
    if settings.overwrite:
        target.clear(files, list(manifest.parts))
        manifest = RunManifest(identity=settings.identity)
    check_asked(target.location, there=manifest.identity.asked, wanted=settings.identity.asked)
    if settings.shard is not None:
        sources = [each for each in sources if settings.shard.has(each.name)]
    state = _State(sources, manifest, settings)
    if state.changed and not settings.only_new:
        raise FileError(
            f"{target.location}: {_listed(state.changed)} changed since it was embedded, or is read "
            "differently; embed its new and changed rows with --only-new, or everything with --overwrite"
        )
    return Dataset(
        target=target,
        settings=settings,
        manifest=manifest,
        tasks=tuple(state.tasks),
        sources=tuple(sources),
        finished=tuple(state.finished),
        replaced=tuple(state.replaced),
        orphans=tuple(state.orphans),
    )


class _State:
    """Sorts the parts of a manifest by what has become of their inputs."""

    def __init__(self, sources: Sequence[Source], manifest: RunManifest, settings: DatasetSettings) -> None:
        self.tasks: list[Task] = []
        self.finished: list[FinishedPart] = []
        self.replaced: list[FinishedPart] = []
        self.changed: list[str] = []
        parts: dict[str, list[FinishedPart]] = {}
        for part in sorted(manifest.parts.values(), key=lambda part: part.first_row):
            parts.setdefault(part.source, []).append(part)
        self._stems = {_stem_of(part) for part in manifest.parts.values()}
        for source in sources:
            self._sort(source, parts.pop(source.name, []), settings)
        self.orphans = [part for rest in parts.values() for part in rest]
        if settings.shard is not None:  # whose parts those are, the other shards know
            self.orphans = [part for part in self.orphans if settings.shard.has(part.source)]

    def _sort(self, source: Source, parts: list[FinishedPart], settings: DatasetSettings) -> None:
        is_same = all(
            part.source_version == source.etag_or_mtime and dict(part.read) == dict(settings.read)
            for part in parts
        )
        if parts and (not is_same or source.location == STDIN):
            self.changed.append(source.location)
            self._replace(source, parts)
            return
        if settings.retry_failed and any(part.failed for part in parts):
            self._replace(source, parts)
            return
        next_row = 0
        for part in parts:
            if part.first_row == next_row:  # what lies behind a gap is done again
                next_row = part.next_row
                self.finished.append(part)
        done = [part for part in parts if part in self.finished]
        if not done or not done[-1].is_last:
            stem = _stem_of(parts[0]) if parts else self._new_stem(source)
            self.tasks.append(Task(source=source, stem=stem, first_row=next_row, first_number=len(done)))

    def _replace(self, source: Source, parts: list[FinishedPart]) -> None:
        self.replaced += parts
        self.tasks.append(Task(source=source, stem=_stem_of(parts[0]), first_row=0, first_number=0))

    def _new_stem(self, source: Source) -> str:
        """The name of the input without its extensions, or with them if another part has that name."""
        path = PurePosixPath(source.name)
        plain = path.with_suffix("") if path.suffix in _COMPRESSIONS else path
        stem = next(
            (name for name in (str(plain.with_suffix("")), str(path)) if name not in self._stems), None
        )
        if stem is None:
            raise FileError(f"{source.location}: another input has the same name; rename one of them")
        self._stems.add(stem)
        return stem


def part_name(task: Task, number: int, settings: DatasetSettings) -> str:
    """The name of an output part: `stem.parquet`, or `stem-00002.parquet` if an input makes several."""
    suffix = f"-{number:05}" if is_numbered(number, settings) else ""
    return f"{task.stem}{suffix}.{settings.output_format}"


def is_numbered(number: int, settings: DatasetSettings) -> bool:
    """True if the name of a part has its number."""
    return settings.rows_per_file is not None or number > 0


def _stem_of(part: FinishedPart) -> str:
    stem = part.name.removesuffix(f".{part.read['output_format']}")
    return stem.removesuffix(f"-{part.number:05}") if part.number is not None else stem


def _is_below(location: str, directory: str) -> bool:
    """True for a file of the target itself, which an input directory around it has too."""
    if not is_url(location):
        location, directory = os.path.realpath(location), os.path.realpath(directory)
    return location.startswith(f"{directory}/")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"
