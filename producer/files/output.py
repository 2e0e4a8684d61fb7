"""The files of one run: vectors, failed texts, and what stands beside them; all of them or none."""

import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from producer.contract import EmbedOptions, Provenance, Reply
from producer.errors import FileError
from producer.files.description import Description
from producer.files.formats import OutputFormat, output_format
from producer.files.jsonl_writer import JsonLinesWriter
from producer.files.npy_writer import NpyWriter
from producer.files.parquet_writer import ParquetWriter
from producer.files.part_file import PartFile, writable
from producer.files.pyarrow_edge import import_pyarrow
from producer.files.rows import Id, IdType, Rows


class Writer(Protocol):
    """One output format, writing to a stream it does not own."""

    def write(self, ids: Sequence[Id], reply: Reply) -> None: ...

    def finish(self, description: str) -> None: ...

    def abandon(self) -> None: ...


class Output:
    """Where the vectors go; a context manager that publishes on a clean exit and else leaves nothing.

    Beside OUT it publishes OUT.errors.jsonl with the failed texts, if there are any (an older one goes),
    OUT.meta.json for the formats that cannot describe themselves, and OUT.ids.jsonl for npy.
    Raises FileError whenever the disk refuses.
    """

    def __init__(
        self, path: Path, kind: OutputFormat | None = None, *, id_type: IdType, options: EmbedOptions
    ) -> None:
        self.path = path
        self._kind = kind or output_format(path)
        self._description = Description(options)
        self._parts: list[PartFile] = []
        self._errors: PartFile | None = None
        if self._kind is OutputFormat.PARQUET:
            import_pyarrow(str(path))
        if path.is_dir():
            raise FileError(f"{path}: is a directory; name a file in it")
        with ExitStack() as on_error, writable(path):
            on_error.callback(self._discard)
            self._writer = self._open_writer(id_type)
            on_error.pop_all()

    @property
    def sources(self) -> tuple[Provenance, ...]:
        """What computed the vectors so far."""
        return self._description.sources

    @property
    def errors_path(self) -> Path:
        """Where failed texts are listed."""
        return self._beside(".errors.jsonl")

    def write(self, rows: Rows, reply: Reply) -> None:
        """Add one answered batch. Raises FileError, or WorkerError where replies do not belong together."""
        self._description.add(reply)
        with writable(self.path):
            self._writer.write(rows.ids, reply)
            for failure in reply.failures:
                # The client counts within the batch, a reader of this file within the input.
                row = rows.first + failure.index
                message = re.sub(rf"\btext {failure.index}\b", f"row {row}", failure.message, count=1)
                self._write_error(
                    {"id": rows.ids[failure.index], "row": row, "code": failure.code, "message": message}
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with writable(self.path):
                    self._publish()
        finally:
            self._writer.abandon()
            self._discard()

    def _publish(self) -> None:
        if not self.sources:
            raise FileError(f"{self.path}: not written, for the input has no rows")
        self._writer.finish(self._description.as_json())
        if self._kind is not OutputFormat.PARQUET:
            self._open(self._beside(".meta.json")).stream.write(self._description.as_json().encode() + b"\n")
        for part in self._parts:
            part.seal()
        if self._errors is None:
            self.errors_path.unlink(missing_ok=True)
        # Last the vectors themselves: who sees them may trust what stands beside them.
        for part in reversed(self._parts):
            part.publish()

    def _discard(self) -> None:
        for part in self._parts:
            part.discard()

    def _open_writer(self, id_type: IdType) -> Writer:
        stream = self._open(self.path).stream
        match self._kind:
            case OutputFormat.PARQUET:
                return ParquetWriter(stream, id_type)
            case OutputFormat.JSONL:
                return JsonLinesWriter(stream)
            case OutputFormat.NPY:
                return NpyWriter(stream, self._open(self._beside(".ids.jsonl")).stream)

    def _write_error(self, line: dict[str, object]) -> None:
        if self._errors is None:
            self._errors = self._open(self.errors_path)
        self._errors.stream.write(json.dumps(line).encode() + b"\n")

    def _open(self, path: Path) -> PartFile:
        part = PartFile(path)
        self._parts.append(part)
        return part

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)
