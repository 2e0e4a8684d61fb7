"""One output part under construction: rows are appended, then it is committed whole."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from producer.contract import Reply
from producer.datasets.assembly import Span, slice_reply
from producer.datasets.dataset import DatasetSettings, OnDuplicate, Task, is_numbered, part_name
from producer.datasets.digests import ROW, RowFacts, with_answers
from producer.datasets.identity import RunIdentity
from producer.datasets.manifest import FinishedPart
from producer.datasets.target import ERRORS, Target, rows_file
from producer.errors import FileError
from producer.files import Output, Reader
from producer.files.made_from import META_SUFFIX
from producer.files.part_file import writable
from producer.files.writer import IDS
from producer.locations import STDIN

_READ_BYTES = 1 << 20


class OpenPart:
    """The output part number `number` of a task, from the input's row `first_row` on.

    If an earlier run began it, from the same input with the same settings, it goes on after those rows.
    """

    def __init__(
        self,
        task: Task,
        reader: Reader,
        *,
        target: Target,
        settings: DatasetSettings,
        number: int,
        first_row: int,
    ) -> None:
        self.task = task
        self.name = part_name(task, number, settings)
        self.number = number
        self.first_row = first_row
        self.schema: Mapping[str, str] = {}
        self._is_closed = False
        self._target = target
        self._settings = settings
        path = target.work / self.name
        with writable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._output = Output(
            path,
            settings.output_format,
            id_type=reader.id_type,
            options=settings.options,
            identity=_part_identity(task, settings, first_row),
            restart=settings.restart,
            overwrite=True,
            kept_schema=reader.kept_schema,
        )
        self._id_type, self._kept_schema = reader.id_type, reader.kept_schema
        self.earlier = self._output.earlier
        self.next_row = max(first_row, self._output.next_row)  #: the next row to read

    @property
    def num_rows_earlier(self) -> int:
        """RowFacts that an interrupted run left."""
        return self.earlier.num_texts

    @property
    def unusable(self) -> str:
        """Why the rows that an earlier run left are of no use; empty if they are, or if there are none."""
        return self._output.unusable

    def earlier_rows(self) -> RowFacts:
        """The digests of the rows that an interrupted run left."""
        with writable(self._output.path):
            data = self._output.unfinished_digests_path.read_bytes() if self.num_rows_earlier else b""
        return np.frombuffer(data[: self.num_rows_earlier * ROW.itemsize], ROW)

    def write(self, span: Span, reply: Reply) -> None:
        """Append the rows of a span. Raises FileError, or WorkerError if replies do not match."""
        digests = with_answers(span.digests, reply)
        start = 0
        for rows in span.rows:
            end = start + len(rows.ids)
            self._output.write(rows, slice_reply(reply, start, end), digests=digests[start:end].tobytes())
            start = end
        vectors = f"fixed_size_list<{reply.vectors.dtype.name}>[{reply.vectors.shape[1]}]"
        kept = self._kept_schema if self._kept_schema is not None else ()
        self.schema = {
            "id": self._id_type,
            "vector": vectors,
            "n_tokens": "int32",
            "truncated": "bool",
            **{each.name: str(each.type) for each in kept},
        }

    def commit(self, identity: RunIdentity, *, next_row: int, is_last: bool) -> FinishedPart:
        """Publish the part, and record it. Raises FileError; then its rows are kept."""
        output, totals = self._output, self._output.totals
        profiles = tuple(
            {"id": one.profile_id, "name": one.profile_name, "precision": one.precision}
            for one in output.sources
        )
        sha256, num_bytes, version = "", 0, ""
        self._is_closed = True
        if totals.num_texts:
            with output:
                pass
            sha256, num_bytes = _checksum(output.path)
            self._put_files(has_failures=bool(totals.failed))
            found = self._target.stat(self.name)
            if found is None or found.size != num_bytes:
                raise FileError(f"{self._target.location}/{self.name}: was removed as soon as it was written")
            version = found.version
        else:
            self._leave()
        part = FinishedPart(
            name=self.name,
            number=self.number if is_numbered(self.number, self._settings) else None,
            source=self.task.source.name,
            source_version=self.task.source.etag_or_mtime,
            source_size=self.task.source.size,
            read=dict(self._settings.read),
            first_row=self.first_row,
            next_row=next_row,
            is_last=is_last,
            truncate=self._settings.options.truncate,
            num_rows=totals.num_texts,
            num_tokens=totals.num_tokens,
            num_truncated=totals.num_truncated,
            failed=dict(totals.failed),
            profiles=profiles,
            num_bytes=num_bytes,
            sha256=sha256,
            version=version,
        )
        self._target.record(part, identity, self.schema)
        return part

    def abandon(self) -> None:
        """Close the part, unless `commit` has; what was written of it is kept for a later run."""
        if not self._is_closed:
            self._is_closed = True
            self._leave()

    def _leave(self) -> None:
        self._output.__exit__(FileError, FileError("the part is not whole"), None)

    def _put_files(self, *, has_failures: bool) -> None:
        """The data first: without it, what lies beside it means nothing."""
        output = self._output
        self._target.put(output.path, self.name)
        self._target.put(output.digests_path, rows_file(self.name))
        ids = output.path.with_name(output.path.name + IDS)
        if ids.exists():
            self._target.put(ids, self.name + IDS)
        if has_failures:
            self._target.put(output.errors_path, f"{ERRORS}/{self.name}.jsonl")
        else:
            self._target.delete(f"{ERRORS}/{self.name}.jsonl")
        # What the manifest says for all parts.
        output.path.with_name(output.path.name + META_SUFFIX).unlink(missing_ok=True)


def _part_identity(
    task: Task, settings: DatasetSettings, first_row: int
) -> Mapping[str, str | int | None] | None:
    """What determines the rows of a part; None if that cannot be known.

    The rows of standard input are compared with those before, which leaving some out makes impossible.
    """
    if task.source.location == STDIN and settings.on_duplicate is OnDuplicate.FIRST:
        return None
    options = settings.options
    return {
        "input": task.source.name,
        "version of the input": task.source.etag_or_mtime,
        "first row": first_row,
        "--rows-per-file": settings.rows_per_file,
        "--model": settings.model,
        "--input-type": options.input_type,
        "--prompt-name": options.prompt_name,
        "--truncate": options.truncate,
        "--dimensions": options.dimensions,
        "--embedding-type": options.embedding_type,
        **settings.read,
    }


def _checksum(path: Path) -> tuple[str, int]:
    """The SHA-256 and the size of a file."""
    digest = hashlib.sha256()
    with writable(path), path.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
        return digest.hexdigest(), os.fstat(stream.fileno()).st_size
