"""Input and output files: reads rows of texts in bounded batches, writes vectors whole or not at all."""

from producer.files.formats import InputFormat, OutputFormat
from producer.files.output import Output
from producer.files.reader import Reader, open_reader
from producer.files.rows import Id, RowBatch
from producer.files.totals import Totals

__all__ = ["Id", "InputFormat", "Output", "OutputFormat", "Reader", "RowBatch", "Totals", "open_reader"]
