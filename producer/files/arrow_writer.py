"""Writes vectors as an Arrow IPC file, the description in the metadata of its schema."""

from typing import Any, BinaryIO

from producer.contract import Reply
from producer.files.answered import answered_batch
from producer.files.journal import Journal
from producer.files.parquet_writer import METADATA_KEY
from producer.files.rows import IdType, RowBatch


class ArrowWriter:
    """Columns as in Parquet. The rows lie in `journal` until `finish` makes the file of them."""

    def __init__(self, stream: BinaryIO, journal: BinaryIO, id_type: IdType) -> None:
        self._stream = stream
        self._journal = Journal(journal)
        self._id_type = id_type

    def write(self, rows: RowBatch, reply: Reply) -> None:
        """Append rows to the journal. Raises OSError."""
        self._journal.append(answered_batch(rows, reply, self._id_type))

    def resume(self, earlier: BinaryIO) -> None:
        """Do nothing: the journal needs no state."""

    def finish(self, description: str) -> None:
        """Write all rows, with `description`, a JSON text, in the schema. Raises OSError, ValueError."""
        import pyarrow as pa

        file: Any = None
        for batch in self._journal.batches():
            metadata = {**(batch.schema.metadata or {}), METADATA_KEY: description}
            schema = batch.schema.with_metadata(metadata)
            if file is None:
                file = pa.ipc.new_file(self._stream, schema)
            file.write_batch(batch.replace_schema_metadata(metadata))
        file.close()

    def abandon(self) -> None:
        """Do nothing: there is nothing to release."""
