"""What every file writer owes, whichever its format; `test_writers.py` has the outputs made of them."""

import errno
import gc
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from producer.contract import Provenance, Reply, TextFailure
from producer.files.arrow_writer import ArrowWriter
from producer.files.jsonl_writer import JsonLinesWriter, gzipped, zstd_compressed
from producer.files.npy_writer import NpyWriter
from producer.files.parquet_writer import METADATA_KEY, ParquetWriter
from producer.files.rows import RowBatch
from producer.files.writer import Writer

SOURCE = Provenance(model="m", revision="r", profile_id="p", profile_name="cpu", precision="fp32")
Rows = tuple[list[str], list[Any]]


class FullDisk(io.BytesIO):
    """A stream that takes nothing."""

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@dataclass(frozen=True, slots=True)
class Format:
    """How to write one format, and how others read it; the second stream has npy's ids, or a journal."""

    writer: Callable[[io.BytesIO, io.BytesIO], Writer]
    read: Callable[[bytes, bytes], Rows]


def read_jsonl(data: bytes, _: bytes) -> Rows:
    lines = [json.loads(line) for line in data.splitlines()]
    return [line["id"] for line in lines], [line["vector"] for line in lines]


def read_npy(data: bytes, ids: bytes) -> Rows:
    vectors = [None if np.isnan(row).any() else row.tolist() for row in np.load(io.BytesIO(data))]
    return [json.loads(line) for line in ids.splitlines()], vectors


def read_parquet(data: bytes, _: bytes) -> Rows:
    table = parquet.read_table(io.BytesIO(data))
    return table["id"].to_pylist(), table["vector"].to_pylist()


def read_arrow(data: bytes, _: bytes) -> Rows:
    table = pa.ipc.open_file(data).read_all()
    return table["id"].to_pylist(), table["vector"].to_pylist()


FORMATS = {
    "jsonl": Format(lambda stream, _: JsonLinesWriter(stream), read_jsonl),
    "jsonl.gz": Format(
        lambda stream, _: JsonLinesWriter(stream, gzipped),
        lambda data, ids: read_jsonl(gzip.decompress(data), ids),
    ),
    "jsonl.zst": Format(
        lambda stream, _: JsonLinesWriter(stream, zstd_compressed),
        lambda data, ids: read_jsonl(pa.CompressedInputStream(io.BytesIO(data), "zstd").read(), ids),
    ),
    "npy": Format(NpyWriter, read_npy),
    "parquet": Format(lambda stream, beside: ParquetWriter(stream, beside, "string"), read_parquet),
    "arrow": Format(lambda stream, beside: ArrowWriter(stream, beside, "string"), read_arrow),
}


def reply(first: int, size: int) -> Reply:
    """Vectors that tell their rows; the third text of the answer has failed."""
    vectors = np.arange(first * 4, (first + size) * 4, dtype=np.float32).reshape(size, 4) / 8
    failed = [2] if size > 2 else []
    vectors[failed] = np.nan
    return Reply(
        vectors=vectors,
        failures=tuple(TextFailure(at, "too_long", "it is too long") for at in failed),
        token_counts=np.full(size, 3, dtype=np.int32),
        truncated=np.array([0], dtype=np.int32),
        scale=None,
        provenance=SOURCE,
    )


def rows_of(*sizes: int) -> Rows:
    """The rows that batches of these sizes amount to."""
    ids, vectors, first = [], [], 0
    for size in sizes:
        answer = reply(first, size)
        ids += [f"id {first + at}" for at in range(size)]
        vectors += [None if np.isnan(row).any() else row.tolist() for row in answer.vectors]
        first += size
    return ids, vectors


def write(writer: Writer, first: int, size: int) -> None:
    writer.write(RowBatch(first, [f"id {first + at}" for at in range(size)], []), reply(first, size))


def write_file(writer: Writer) -> None:
    write(writer, 0, 3)
    writer.finish("{}")


@pytest.mark.parametrize("name", FORMATS)
class TestEveryWriter:
    """The contract of `Writer`."""

    def test_rows_come_back_in_order(self, name: str) -> None:
        """Of all batches, with failed texts at their places."""
        stream, ids = io.BytesIO(), io.BytesIO()
        writer = FORMATS[name].writer(stream, ids)
        write(writer, 0, 5)
        write(writer, 5, 1)
        write(writer, 6, 3)
        writer.finish("{}")
        assert FORMATS[name].read(stream.getvalue(), ids.getvalue()) == rows_of(5, 1, 3)

    def test_the_stream_stays_open(self, name: str) -> None:
        """It belongs to the caller, who syncs and renames what was written."""
        ends: list[Callable[[Writer], None]] = [
            lambda one: one.finish("{}"),
            lambda one: one.abandon(),
        ]
        for end in ends:
            stream, ids = io.BytesIO(), io.BytesIO()
            writer = FORMATS[name].writer(stream, ids)
            write(writer, 0, 2)
            end(writer)
            del writer
            gc.collect()
            assert not stream.closed
            assert not ids.closed

    def test_what_was_written_resumes_after_a_kill(self, name: str) -> None:
        """At the end of any batch, without a pause: what reached the streams is never rewritten."""
        stream, beside = io.BytesIO(), io.BytesIO()
        writer = FORMATS[name].writer(stream, beside)
        write(writer, 0, 3)
        killed = stream.getvalue(), beside.getvalue()
        for first, size in ((3, 3), (6, 2)):
            writer = FORMATS[name].writer(stream, beside)
            writer.resume(io.BytesIO(stream.getvalue()))
            write(writer, first, size)
        assert stream.getvalue().startswith(killed[0])
        assert beside.getvalue().startswith(killed[1])
        writer.finish("{}")
        assert FORMATS[name].read(stream.getvalue(), beside.getvalue()) == rows_of(3, 3, 2)

    def test_an_abandoned_writer_writes_no_more(self, name: str) -> None:
        """Not when it is collected either: by then another run may have the file."""
        stream, ids = io.BytesIO(), io.BytesIO()
        writer = FORMATS[name].writer(stream, ids)
        write(writer, 0, 3)
        writer.abandon()
        writer.abandon()
        written = stream.getvalue()
        del writer
        gc.collect()
        assert stream.getvalue() == written
        FORMATS[name].writer(io.BytesIO(), io.BytesIO()).abandon()  # one that has written nothing

    def test_a_full_disk_is_an_os_error(self, name: str) -> None:
        """Whatever library writes; the output turns it into a FileError."""
        stream = FullDisk()
        writer = FORMATS[name].writer(stream, io.BytesIO())
        with pytest.raises(OSError, match="No space left"):
            write_file(writer)
        writer.abandon()


def test_parquet_has_a_place_for_the_description() -> None:
    """The others ignore it: their description lies in a file beside them."""
    stream = io.BytesIO()
    writer = ParquetWriter(stream, io.BytesIO(), "string")
    write(writer, 0, 1)
    writer.finish('{"model": "m"}')
    metadata = parquet.read_metadata(io.BytesIO(stream.getvalue())).metadata
    assert metadata[METADATA_KEY.encode()] == b'{"model": "m"}'
