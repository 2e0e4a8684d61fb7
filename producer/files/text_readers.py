"""Rows of the formats that need nothing but the standard library: lines, JSONL, CSV."""

import contextlib
import csv
import itertools
import json
from collections.abc import Iterator, Mapping

from producer.errors import FileError
from producer.files.columns import pick_columns
from producer.files.rows import Id, IdType, Table, printable
from producer.files.text_stream import MAX_LINE_BYTES, TextStream

Pairs = Iterator[tuple[Id, object]]


def open_lines(path: str) -> Table:
    """One text a line; an empty line is an empty text. Rows are numbered."""
    stream = TextStream(path)
    texts = (line.removesuffix("\n").removesuffix("\r") for line in stream.lines())
    return _table(stream, rows=enumerate(texts), id_type="int64")


def open_jsonl(path: str, *, text_column: str, id_column: str | None) -> Table:
    """One JSON object a line, blank lines skipped; the first object says which columns there are."""
    with contextlib.ExitStack() as on_error:
        stream = on_error.enter_context(contextlib.closing(TextStream(path)))
        objects = _objects(stream)
        first = next(objects, None)
        columns = (text_column, id_column)
        if first is not None:
            columns = pick_columns(first, path=path, text_column=text_column, id_column=id_column)
            objects = itertools.chain([first], objects)
        on_error.pop_all()
    text, row_id = columns
    rows: Pairs
    if row_id is None:
        rows = ((number, item.get(text)) for number, item in enumerate(objects))
        return _table(stream, rows=rows, id_type="int64")
    rows = ((_json_id(item.get(row_id)), item.get(text)) for item in objects)
    return _table(stream, rows=rows, id_type="string")


def open_csv(path: str, *, text_column: str, id_column: str | None) -> Table:
    """Comma-separated with a header line; fields may be quoted and hold newlines."""
    # The module's own bound of 128 KiB would refuse texts that we accept.
    csv.field_size_limit(max(MAX_LINE_BYTES, csv.field_size_limit()))
    with contextlib.ExitStack() as on_error:
        stream = on_error.enter_context(contextlib.closing(TextStream(path)))
        records = _records(stream)
        header = next(records, [])
        text, row_id = pick_columns(header, path=path, text_column=text_column, id_column=id_column)
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
                f"{stream.path} line {number}: not JSON; every line must be one complete JSON object"
            ) from error
        if not isinstance(item, dict):
            raise FileError(f"{stream.path} line {number}: a JSON {type(item).__name__}, not an object")
        yield item


def _records(stream: TextStream) -> Iterator[list[str]]:
    records = csv.reader(stream.lines(), strict=True)
    num_fields = 0
    try:
        for record in records:
            num_fields = num_fields or len(record)
            if len(record) > num_fields:
                raise FileError(
                    f"{stream.path} line {records.line_num}: {len(record)} fields under a header of "
                    f"{num_fields}; put texts that hold a comma in quotes"
                )
            if record:
                yield record
    except csv.Error as error:
        raise FileError(
            f"{stream.path} line {records.line_num}: not CSV ({error}); check its quotes"
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
        rows=rows,
        id_type=id_type,
        num_rows=None,
        fraction_read=stream.fraction_read,
        stop=stream.stop,
        close=stream.close,
    )
