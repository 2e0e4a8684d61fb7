"""Input and output files: reads rows of texts in bounded batches, writes vectors whole or not at all."""

from producer.files.formats import OutputFormat
from producer.files.output import Output
from producer.files.reader import Reader, open_reader
from producer.files.rows import Id, IdType, RowBatch, typed_ids
from producer.files.totals import Totals
from producer.locations import FileSystem, Source, Stat, open_filesystem
from producer.tables.columns import KEEP_ALL, Columns
from producer.tables.dialect import Dialect
from producer.tables.expansion import expand
from producer.tables.formats import InputFormat

__all__ = [
    "KEEP_ALL",
    "Columns",
    "Dialect",
    "FileSystem",
    "Id",
    "IdType",
    "InputFormat",
    "Output",
    "OutputFormat",
    "Reader",
    "RowBatch",
    "Source",
    "Stat",
    "Totals",
    "expand",
    "open_filesystem",
    "open_reader",
    "typed_ids",
]
