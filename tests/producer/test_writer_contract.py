"""What every file writer owes, whichever its format; `test_writers.py` has the outputs made of them."""

import errno
import gc
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from producer.contract import Provenance, Reply, TextFailure
from producer.files.jsonl_writer import JsonLinesWriter
from producer.files.npy_writer import NpyWriter
from producer.files.output import Writer
from producer.files.parquet_writer import METADATA_KEY, ParquetWriter

SOURCE = Provenance(model="m", revision="r", profile_id="p", profile_name="cpu", precision="fp32")
Rows = tuple[list[str], list[Any]]


class FullDisk(io.BytesIO):
    """A stream that takes nothing."""

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@dataclass(frozen=True, slots=True)
class Format:
    """How to write one format, and how others read it; `ids` is the stream beside an npy file."""

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


FORMATS = {
    "jsonl": Format(lambda stream, _: JsonLinesWriter(stream), read_jsonl),
    "npy": Format(NpyWriter, read_npy),
    "parquet": Format(lambda stream, _: ParquetWriter(stream, "string"), read_parquet),
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
    writer.write([f"id {first + at}" for at in range(size)], reply(first, size))


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
            lambda one: one.pause(),
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

    def test_a_paused_file_resumes(self, name: str) -> None:
        """With the rows of an uninterrupted run; what appends continues in the same stream."""
        stream, ids = io.BytesIO(), io.BytesIO()
        writer = FORMATS[name].writer(stream, ids)
        write(writer, 0, 3)
        for first in (3, 6):
            writer.pause()
            writer.abandon()
            earlier = io.BytesIO(stream.getvalue())
            stream = stream if writer.appends else io.BytesIO()
            writer = FORMATS[name].writer(stream, ids)
            writer.resume(earlier)
            write(writer, first, 3)
        writer.finish("{}")
        assert FORMATS[name].read(stream.getvalue(), ids.getvalue()) == rows_of(3, 3, 3)

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
    writer = ParquetWriter(stream, "string")
    write(writer, 0, 1)
    writer.finish('{"model": "m"}')
    metadata = parquet.read_metadata(io.BytesIO(stream.getvalue())).metadata
    assert metadata[METADATA_KEY.encode()] == b'{"model": "m"}'


@pytest.mark.parametrize("name", ["jsonl", "npy"])
def test_what_appends_resumes_after_a_kill(name: str) -> None:
    """`appends` promises that no pause is needed: what reached the stream is never rewritten."""
    stream, ids = io.BytesIO(), io.BytesIO()
    writer = FORMATS[name].writer(stream, ids)
    assert writer.appends
    write(writer, 0, 3)
    killed = stream.getvalue()
    writer = FORMATS[name].writer(stream, ids)
    writer.resume(io.BytesIO(killed))
    write(writer, 3, 2)
    assert stream.getvalue().startswith(killed)
    writer.finish("{}")
    assert FORMATS[name].read(stream.getvalue(), ids.getvalue()) == rows_of(3, 2)
