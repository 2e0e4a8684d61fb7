"""Reads the formats that need only the standard library: lines, JSONL and CSV."""

import contextlib
import csv
import itertools
import json
from collections.abc import Iterator, Mapping

from producer.errors import FileError
from producer.locations.sources import Source
from producer.tables.columns import pick_columns
from producer.tables.table import Chunk, Id, IdType, Table, printable
from producer.tables.text_stream import MAX_LINE_BYTES, TextStream

Pairs = Iterator[tuple[Id, object]]


def open_lines(source: Source) -> Table:
    """Open a file with one text per line; an empty line is an empty text. Rows are numbered."""
    stream = TextStream(source)
    texts = (line.removesuffix("\n").removesuffix("\r") for line in stream.lines())
    return _table(stream, rows=enumerate(texts), id_type="int64")


def open_jsonl(source: Source, *, text_column: str, id_column: str | None) -> Table:
    """Open a file with one JSON object per line, skipping blank lines; the first names the columns."""
    with contextlib.ExitStack() as on_error:
        stream = on_error.enter_context(contextlib.closing(TextStream(source)))
        objects = _objects(stream)
        first = next(objects, None)
        columns = (text_column, id_column)
        if first is not None:
            columns = pick_columns(first, path=source.location, text_column=text_column, id_column=id_column)
            objects = itertools.chain([first], objects)
        on_error.pop_all()
    text, row_id = columns
    rows: Pairs
    if row_id is None:
        rows = ((number, item.get(text)) for number, item in enumerate(objects))
        return _table(stream, rows=rows, id_type="int64")
    rows = ((_json_id(item.get(row_id)), item.get(text)) for item in objects)
    return _table(stream, rows=rows, id_type="string")


def open_csv(source: Source, *, text_column: str, id_column: str | None) -> Table:
    """Open a comma-separated file with a header; quoted fields may hold newlines."""
    # The module's limit of 128 KiB would refuse texts that we accept.
    csv.field_size_limit(max(MAX_LINE_BYTES, csv.field_size_limit()))
    with contextlib.ExitStack() as on_error:
        stream = on_error.enter_context(contextlib.closing(TextStream(source)))
        records = _records(stream)
        header = next(records, [])
        text, row_id = pick_columns(
            header, path=source.location, text_column=text_column, id_column=id_column
        )
        on_error.pop_all()
    text_at = header.index(text)
    rows: Pairs
    if row_id is None:
        rows = ((number, _field(record, text_at)) for number, record in enumerate(records))
        return _table(stream, rows=rows, id_type="int64")
    id_at = header.index(row_id)
    rows = ((_csv_id(_field(record, id_at)), _field(record, text_at)) for record in records)
    return _table(stream, rows=rows, id_type="string")


def _objects(stream: TextStream) -> Iterator[Mapping[str, object]]:
    for number, line in enumerate(stream.lines(), start=1):
        if line.isspace():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FileError(
                f"{stream.path} line {number}: not JSON; put one complete JSON object on each line"
            ) from error
        if not isinstance(item, dict):
            raise FileError(
                f"{stream.path} line {number}: a JSON {type(item).__name__}, not an object; put one complete "
                "JSON object on each line"
            )
        yield item


def _records(stream: TextStream) -> Iterator[list[str]]:
    records = csv.reader(stream.lines(), strict=True)
    num_fields = 0
    try:
        for record in records:
            num_fields = num_fields or len(record)
            if len(record) > num_fields:
                raise FileError(
                    f"{stream.path} line {records.line_num}: {len(record)} fields, but the header has "
                    f"{num_fields}; quote texts that contain a comma"
                )
            if record:
                yield record
    except csv.Error as error:
        raise FileError(
            f"{stream.path} line {records.line_num}: not CSV ({error}); check the quotes"
        ) from error


def _field(record: list[str], at: int) -> str | None:
    return record[at] if at < len(record) else None


def _csv_id(value: str | None) -> Id:
    return None if value is None else printable(value)


def _json_id(value: object) -> Id:
    if value is None:
        return None
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _table(stream: TextStream, *, rows: Pairs, id_type: IdType) -> Table:
    return Table(
        chunks=lambda skip: _chunks(itertools.islice(rows, skip, None)),
        id_type=id_type,
        fraction_read=stream.fraction_read,
        stop=stream.stop,
        close=stream.close,
    )


def _chunks(rows: Pairs) -> Iterator[Chunk]:
    while piece := list(itertools.islice(rows, 1024)):
        yield Chunk([row_id for row_id, _ in piece], [text for _, text in piece])
