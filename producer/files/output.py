"""The output files of a run, published together or not at all: vectors, failed texts, metadata."""

import json
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from producer.contract import EmbedOptions, Provenance, Reply
from producer.errors import FileError
from producer.files.answered import check_kept_names
from producer.files.description import Description
from producer.files.formats import OutputFormat, output_format
from producer.files.ledger import Ledger
from producer.files.made_from import META_SUFFIX, identity_digest
from producer.files.part_file import part_path, writable
from producer.files.parts import Parts
from producer.files.rows import IdType, RowBatch
from producer.files.totals import Totals
from producer.files.writer import IDS, JOURNAL, Writer, check_format, open_writer

SAVE_EVERY_S = 5.0  # the most work that a killed run has to repeat
_ERRORS, _DIGESTS = ".errors.jsonl", ".digests"


class Output:
    """The output of a run; a context manager that publishes its files on a clean exit.

    Beside OUT it publishes OUT.errors.jsonl with the failed texts, if there are any (else an older one is
    removed), OUT.meta.json for formats without metadata of their own, OUT.ids.jsonl for npy, and OUT.digests
    with what `write` is given of them.
    `identity` is everything that determines the rows. With it, an exit on an error keeps what was written,
    and the next output of the same identity resumes after its `earlier` rows; so it does after the process
    was killed. Without it an error leaves no files. `restart` starts over; a file that is there already is
    replaced only with `overwrite`. `kept_schema` names the columns that the rows bring along.
    Raises FileError whenever the disk refuses a write.
    """

    def __init__(
        self,
        path: Path,
        kind: OutputFormat | None = None,
        *,
        id_type: IdType,
        options: EmbedOptions,
        identity: Mapping[str, str | int | None] | None = None,
        restart: bool = False,
        overwrite: bool = False,
        kept_schema: Any = None,
        save_every_s: float = SAVE_EVERY_S,
    ) -> None:
        self.path = path
        self.totals = self.earlier = Totals()
        self.next_row = 0  #: the first row of the input that this output does not have yet
        self.num_kept = 0  #: rows that a later run need not repeat if this one ends early
        self._kind = kind or output_format(path)
        self._description = Description(options)
        self._identity = identity
        self._parts = Parts(path)
        self._is_torn = False  # true while a batch is written, and for good if that fails
        self._save_every_s = save_every_s
        self._next_save_s = time.monotonic() + save_every_s
        check_format(self._kind, path, has_kept=kept_schema is not None)
        if kept_schema is not None:
            check_kept_names(kept_schema.names, str(path))
        _check_target(path, overwrite=overwrite)
        with ExitStack() as on_error, writable(path):
            on_error.callback(self._parts.release)
            self._parts.open()
            ledger = None if restart or identity is None else self._parts.ledger(identity)
            if ledger is None:
                on_error.callback(self._parts.discard)
                self._parts.restart((_ERRORS, META_SUFFIX, IDS, JOURNAL, _DIGESTS))
            self._writer = self._open_writer(id_type) if ledger is None else self._resume(ledger, id_type)
            on_error.pop_all()

    @property
    def sources(self) -> tuple[Provenance, ...]:
        """What computed the vectors so far."""
        return self._description.sources

    @property
    def prompt_name(self) -> str | None:
        """The model's prompt that was put before the texts, None if none was."""
        return self._description.prompt_name

    @property
    def description(self) -> Description:
        """What the vectors were computed with so far."""
        return self._description

    @property
    def errors_path(self) -> Path:
        """The file that lists the failed texts."""
        return self.path.with_name(self.path.name + _ERRORS)

    @property
    def digests_path(self) -> Path:
        """The file that has the rows' digests."""
        return self.path.with_name(self.path.name + _DIGESTS)

    @property
    def unfinished_digests_path(self) -> Path:
        """The file that has the digests of the rows so far."""
        return part_path(self.digests_path)

    @property
    def unusable(self) -> str:
        """Why the files of an earlier run cannot be resumed; empty if they can, or if there are none."""
        return self._parts.unusable

    def write(self, rows: RowBatch, reply: Reply, *, digests: bytes = b"") -> None:
        """Append an answered batch. Raises FileError, or WorkerError if replies do not match."""
        self._description.add(reply)
        with writable(self.path):
            self._is_torn = True
            self._writer.write(rows, reply)
            for failure in reply.failures:
                # The client counts within the batch, a reader of this file within the input.
                row = rows.first + failure.index
                message = re.sub(rf"\btext {failure.index}\b", f"row {row}", failure.message, count=1)
                error = {"id": rows.ids[failure.index], "row": row, "code": failure.code, "message": message}
                self._parts.open(_ERRORS).write(json.dumps(error).encode() + b"\n")
            if digests:
                self._parts.open(_DIGESTS).write(digests)
            self.totals = self.totals.plus(reply)
            self.next_row = rows.first + len(rows.ids)
            self._is_torn = False
            if time.monotonic() >= self._next_save_s:
                self._save()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with writable(self.path):
                    self._publish()
            else:
                with suppress(OSError):  # what was saved last remains valid
                    self._keep()
        finally:
            self._writer.abandon()
            if self.num_kept:
                self._parts.release()
            else:
                self._parts.discard()

    def _publish(self) -> None:
        if not self.sources:
            raise FileError(f"{self.path}: not written: the input has no rows")
        if self._parts.has(JOURNAL):
            self._keep()  # the journal's rows are safe before the file is made of them
        description = self._description.as_json(made_from=identity_digest(self._identity))
        self._writer.finish(description)
        if self._kind not in (OutputFormat.PARQUET, OutputFormat.ARROW):
            self._parts.open(META_SUFFIX).write(description.encode() + b"\n")
        self._parts.sync()
        self.num_kept = 0
        if not self._parts.has(_ERRORS):
            self.errors_path.unlink(missing_ok=True)
        self._parts.publish(without=(JOURNAL,))

    def _keep(self) -> None:
        """Keep what was written for a later run."""
        if self._identity is not None and self.totals.num_texts and not self._is_torn:
            self._save()

    def _save(self) -> None:
        if self._identity is not None:
            self._parts.save(
                self._identity,
                totals=self.totals,
                next_row=self.next_row,
                description=self._description.state(),
            )
            self.num_kept = self.totals.num_texts
            self._next_save_s = time.monotonic() + self._save_every_s

    def _resume(self, ledger: Ledger, id_type: IdType) -> Writer:
        with self._parts.resume(ledger.sizes) as earlier:
            writer = self._open_writer(id_type)
            try:
                writer.resume(earlier)
                self._description.restore(ledger.description)
            except (ValueError, TypeError, KeyError) as error:
                raise FileError(
                    f"{self.path}: an interrupted run left damaged files ({error}); start over with --restart"
                ) from error
        self.totals = self.earlier = ledger.totals
        self.next_row = ledger.next_row
        self.num_kept = ledger.totals.num_texts
        return writer

    def _open_writer(self, id_type: IdType) -> Writer:
        return open_writer(self._kind, self._parts.open, id_type=id_type)


def _check_target(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise FileError(f"{path}: is a directory; choose a file in it")
    if path.exists() and not path.is_file():  # the last step would replace a device by a file
        raise FileError(f"{path}: not a regular file; choose another output path")
    if path.exists() and not overwrite:
        raise FileError(f"{path}: exists already; choose another output path, or replace it with --overwrite")
