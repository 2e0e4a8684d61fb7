"""What every writer of an output format does, and which writer writes which."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from producer.contract import Reply
from producer.errors import FileError
from producer.files.arrow_writer import ArrowWriter
from producer.files.formats import OutputFormat
from producer.files.jsonl_writer import JsonLinesWriter, gzipped, zstd_compressed
from producer.files.npy_writer import NpyWriter
from producer.files.parquet_writer import ParquetWriter
from producer.files.rows import IdType, RowBatch
from producer.tables.pyarrow_edge import import_pyarrow

IDS, JOURNAL = ".ids.jsonl", ".journal"


class Writer(Protocol):
    """Writes one output format to streams it does not own.

    What `write` has written never changes, so that a run can resume after any batch.
    """

    def write(self, rows: RowBatch, reply: Reply) -> None: ...

    def resume(self, earlier: BinaryIO) -> None: ...

    def finish(self, description: str) -> None: ...

    def abandon(self) -> None: ...


def check_format(kind: OutputFormat, path: Path, *, has_kept: bool) -> None:
    """Raises FileError if this format cannot be written here, or has no place for kept columns."""
    if kind in (OutputFormat.PARQUET, OutputFormat.ARROW, OutputFormat.JSONL_ZST):
        import_pyarrow(str(path))
    if kind is OutputFormat.NPY and has_kept:
        raise FileError(f"{path}: npy has no place for columns; write Parquet, or use --keep-columns none")


def open_writer(kind: OutputFormat, open_part: Callable[[str], BinaryIO], *, id_type: IdType) -> Writer:
    """The writer for a file of that format; `open_part` gives the stream of OUT ("") or one beside it."""
    match kind:
        case OutputFormat.PARQUET:
            return ParquetWriter(open_part(""), open_part(JOURNAL), id_type)
        case OutputFormat.ARROW:
            return ArrowWriter(open_part(""), open_part(JOURNAL), id_type)
        case OutputFormat.NPY:
            return NpyWriter(open_part(""), open_part(IDS))
        case OutputFormat.JSONL_GZ:
            return JsonLinesWriter(open_part(""), gzipped)
        case OutputFormat.JSONL_ZST:
            return JsonLinesWriter(open_part(""), zstd_compressed)
        case OutputFormat.JSONL:
            return JsonLinesWriter(open_part(""))
