"""Typed files keep their types: what is text, what is an id, and what is kept."""

import datetime
import decimal
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import orc, parquet
from support.inputs import batches_of, kept_of, rows_in

from producer.errors import FileError
from producer.files import open_reader

NOON = datetime.datetime(2026, 11, 27, 12, 30, 0, 250, tzinfo=datetime.UTC)


def write(path: Path, **columns: Any) -> Path:
    """An Arrow file of several batches, with any type there is."""
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


@pytest.mark.parametrize(
    ("values", "kind", "ids", "id_type"),
    [
        ([1, None], pa.int8(), [1, None], "int64"),
        ([-1], pa.int64(), [-1], "int64"),
        ([2**64 - 1], pa.uint64(), [2**64 - 1], "uint64"),
        (["a", None], pa.large_string(), ["a", None], "string"),
        (["a"], pa.string_view(), ["a"], "string"),
        ([b"\x00\xff"], pa.binary(), ["00ff"], "string"),
        ([b"\x00\xff"], pa.binary(2), ["00ff"], "string"),
        ([uuid.UUID(int=1).bytes], pa.uuid(), [str(uuid.UUID(int=1))], "string"),
        ([decimal.Decimal("1.50")], pa.decimal128(9, 2), ["1.50"], "string"),
        ([1.5, 2.0], pa.float32(), ["1.5", "2"], "string"),
        ([True], pa.bool_(), ["true"], "string"),
        ([NOON], pa.timestamp("us", "UTC"), ["2026-11-27 12:30:00.000250Z"], "string"),
        ([NOON.replace(tzinfo=None)], pa.timestamp("s"), ["2026-11-27 12:30:00"], "string"),
        ([NOON.date()], pa.date32(), ["2026-11-27"], "string"),
        ([None], pa.null(), [None], "string"),
    ],
)
def test_ids_of_every_type(
    tmp_path: Path, values: list[Any], kind: Any, ids: list[Any], id_type: str
) -> None:
    """Integers and text stay, everything else has one way to be written."""
    column = pa.array(values, kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind)
    if isinstance(kind, pa.BaseExtensionType):
        column = pa.ExtensionArray.from_storage(kind, column)
    path = write(tmp_path / "in.arrows", id=column, text=["a"] * len(values))
    assert [row_id for row_id, _ in rows_in(path)] == ids
    with open_reader(str(path)) as reader:
        assert reader.id_type == id_type
        typed = pa.array(ids, pa.type_for_alias(reader.id_type))  # a typed output can hold them
    assert typed.to_pylist() == ids


def test_dictionary_ids_keep_the_type_of_their_values(tmp_path: Path) -> None:
    """A dictionary is a way to store values, no type of its own."""
    path = write(tmp_path / "in.arrows", id=pa.array([7, 7, 8]).dictionary_encode(), text=["a"] * 3)
    assert [row_id for row_id, _ in rows_in(path)] == [7, 7, 8]


def test_text_in_every_type_of_column(tmp_path: Path) -> None:
    """Strings of any kind are texts, and bytes, which fail alone if they are not UTF-8; null is none."""
    values = ["a", None, "ä"]
    plain = pa.array(values)
    columns = [
        plain.cast(kind) for kind in (pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())
    ]
    columns += [plain.dictionary_encode(), pa.array(values, pa.binary_view())]
    columns.append(pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3], pa.int32()), plain))
    for column in columns:
        assert [text for _, text in rows_in(write(tmp_path / "in.arrows", text=column))] == values, (
            column.type
        )
    path = write(tmp_path / "in.arrows", text=pa.array([b"\xff", b"ok"]))
    assert [text for _, text in rows_in(path)] == ["\udcff", "ok"]
    damaged = pa.StringArray.from_buffers(2, *pa.array([b"\xff", b"ok"]).buffers()[1:])
    assert [text for _, text in rows_in(write(path, text=damaged))] == ["\udcff", "ok"]
    path = write(tmp_path / "in.arrows", text=pa.nulls(3))
    assert [text for _, text in rows_in(path)] == [None, None, None]


def test_what_is_no_text_or_id_is_refused_with_its_type(tmp_path: Path) -> None:
    """Numbers and lists are no texts, and lists no ids: said before anything is sent, with a way out."""
    path = write(tmp_path / "in.arrows", text=[1, 2], tags=[["a"], []])
    with pytest.raises(FileError, match=r"'text' holds int64, not text.*--template '\{text\}'"):
        rows_in(path)
    assert [text for _, text in rows_in(path, template="{text}")] == ["1", "2"]
    with pytest.raises(FileError, match="'tags' holds list"):
        rows_in(path, text="tags")
    with pytest.raises(FileError, match=r"'tags' holds list.*, which is no id"):
        rows_in(path, template="{text}", id="tags")


def test_a_nested_column_is_null_where_its_parent_is(tmp_path: Path) -> None:
    """`a.b.c` goes down through structs; a column of that very name comes first."""
    rows = [{"b": {"c": "x"}}, None, {"b": None}]
    path = write(tmp_path / "in.arrows", a=rows, n=[1, 2, 3])
    assert [text for _, text in rows_in(path, text="a.b.c")] == ["x", None, None]
    kept = kept_of(path, "a.b", text="a.b.c")
    assert kept.to_pylist() == [{"a.b": {"c": "x"}}, {"a.b": None}, {"a.b": None}]
    with pytest.raises(FileError, match=r"no column 'a.x' \(found: 'a', 'n'\)"):
        rows_in(path, text="a.x")
    path = write(tmp_path / "in.arrows", **{"a.b": ["exact"] * 3, "a": rows})
    assert [text for _, text in rows_in(path, text="a.b")] == ["exact"] * 3


def test_a_template_prints_every_type(tmp_path: Path) -> None:
    """Null is empty, times are ISO 8601, lists JSON; a row of nulls only has no text."""
    path = write(
        tmp_path / "in.arrows",
        t=["a", None],
        n=[1.5, None],
        at=pa.array([NOON, None], pa.timestamp("us", "UTC")),
        ns=pa.array([1, None], pa.timestamp("ns")),
        tags=[["x", "ä"], None],
        yes=[True, None],
    )
    template = "{t}|{n}|{at}|{ns}|{tags}|{yes}"
    (_, first), (_, second) = rows_in(path, template=template)
    assert first == 'a|1.5|2026-11-27T12:30:00.000250+00:00|1970-01-01 00:00:00.000000001|["x", "ä"]|true'
    assert second is None


@pytest.mark.parametrize("kind", ["parquet", "orc", "arrows"])
def test_kept_columns_are_unchanged(tmp_path: Path, kind: str) -> None:
    """Kept columns have the input's types and values, over batches and row groups, from any row on."""
    columns: dict[str, Any] = {
        "id": range(7),
        "text": [f"text {row}" for row in range(7)],
        "at": pa.array([NOON] * 6 + [None], pa.timestamp("ns", None if kind == "orc" else "Europe/Berlin")),
        "price": pa.array([decimal.Decimal("1.10")] * 7, pa.decimal128(9, 2)),
        "tags": [["a"], None, []] + [["b", None]] * 4,
        "doc": [{"x": 1, "y": "z"}] * 7,
        "n": pa.array([1] * 7, pa.int16()),
    }
    if kind != "orc":
        columns["kind"] = pa.array(list("abcabca")).dictionary_encode()
    table = pa.table(columns)
    path = tmp_path / f"in.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=2)
    elif kind == "orc":
        orc.write_table(table, path)
    else:
        write(path, **columns)
    kept = kept_of(path)
    assert kept.schema.types == table.drop_columns("id").schema.types
    assert kept.to_pylist() == table.drop_columns("id").to_pylist()
    with open_reader(str(path)) as reader:
        (batch, *_) = reader.batches(max_texts=2, max_bytes=10**6, skip=5)
        assert (batch.first, batch.ids, batch.texts) == (5, [5, 6], ["text 5", "text 6"])
    assert all(batch.kept.schema == kept.schema for batch in batches_of(path, keep="all"))


def test_damage_within_a_file_is_an_error(tmp_path: Path) -> None:
    """A page that was overwritten is found when it is read, and is no traceback."""
    path = tmp_path / "in.parquet"
    table = pa.table({"text": [f"some text {row}" for row in range(5000)]})
    parquet.write_table(table, path, row_group_size=1000, compression="zstd", use_dictionary=False)
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 200] = b"\xff" * 200
    path.write_bytes(damaged)
    with pytest.raises(FileError, match="cannot be read"):
        rows_in(path)
