"""Rows of an unfinished columnar file: batches appended to a file that can be cut after any of them."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from producer.files.dictionaries import SharedDictionaries

_LENGTH_BYTES = 8


class Journal:
    """Appends record batches to a stream it does not own, each as an Arrow IPC stream behind its length.

    The stream is open for writing and reading.

    Parquet cannot be appended to, nor read without its end; this can, also after the process was killed.
    Each batch carries its own schema and dictionaries, so that it needs no other.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def append(self, batch: Any) -> None:
        """Append a batch. Raises OSError."""
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        frame = sink.getvalue()
        self._stream.write(len(frame).to_bytes(_LENGTH_BYTES, "little"))
        self._stream.write(frame)

    def batches(self) -> Iterator[Any]:
        """All batches in order, of one schema, one in memory at a time.

        Raises OSError; ValueError if they are damaged.
        """
        dictionaries = SharedDictionaries(self._read())
        return map(dictionaries.encode, self._read())

    def _read(self) -> Iterator[Any]:
        import pyarrow as pa

        self._stream.seek(0)
        while length := self._stream.read(_LENGTH_BYTES):
            frame = self._stream.read(int.from_bytes(length, "little"))
            try:
                yield from pa.ipc.open_stream(frame)
            except pa.ArrowException as error:
                raise ValueError(f"a batch of the journal cannot be read: {error}") from error
