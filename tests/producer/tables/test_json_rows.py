"""JSON has no schema: what the first rows show is used, and a row that does not fit fails alone."""

import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from support.inputs import kept_of, notes_of, rows_in

from producer.errors import FileError, InvalidOption
from producer.files import Columns, open_reader


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def test_a_column_counts_wherever_it_first_appears(tmp_path: Path) -> None:
    """Ids and texts count that the first row lacks; what is missing is null."""
    path = write(tmp_path / "a.jsonl", {"text": "a"}, {"id": 7, "text": "b"}, {"id": 8, "text": "c"})
    assert rows_in(path) == rows_in(path, id="id") == [(None, "a"), (7, "b"), (8, "c")]
    path = write(tmp_path / "b.jsonl", {"id": 1}, {"id": 2, "text": "b"})
    assert rows_in(path) == [(1, None), (2, "b")]


def test_ids_that_come_after_numbered_rows_are_an_error(tmp_path: Path) -> None:
    """Ids are never lost without a word: far behind rows that were numbered they end the run."""
    path = write(tmp_path / "a.jsonl", *[{"text": "a"}] * 1000, {"id": 7, "text": "b"})
    with pytest.raises(FileError, match=r"a later row has 'id'.*--id-column id"):
        rows_in(path)


def test_ids_keep_their_type(tmp_path: Path) -> None:
    """Integers stay integers and text stays text, also in one file, which is then of type string."""
    path = write(tmp_path / "a.jsonl", {"id": 1, "text": "a"}, {"id": "1", "text": "b"})
    assert rows_in(path) == [(1, "a"), ("1", "b")]
    for ids, kind in (([1, None], "int64"), ([2**63], "uint64"), ([2**64], "string"), ([1, "a"], "string")):
        write(path, *[{"id": each, "text": "a"} for each in ids])
        with open_reader(str(path)) as reader:
            assert reader.id_type == kind
    assert rows_in(write(path, {"id": 1.5, "text": "a"})) == [("1.5", "a")]
    assert rows_in(write(path, {"id": 1, "text": "a"}), id_type="string") == [("1", "a")]


def test_an_id_of_another_type_fails_its_row(tmp_path: Path) -> None:
    """A text among ids that the first rows showed to be integers fails its row, and says what to give."""
    path = write(tmp_path / "a.jsonl", *[{"id": 1, "text": "a"}] * 600, {"id": "x", "text": "b"})
    row_id, text = rows_in(path)[600]
    assert row_id is None
    assert "--id-type string" in str(text)
    assert rows_in(path, id_type="string")[600] == ("x", "b")


def test_a_broken_line_fails_alone(tmp_path: Path) -> None:
    """A line that is no JSON, or no object, is a row with a reason; blank lines are none."""
    path = write(
        tmp_path / "a.jsonl", {"text": "a"}, '{"text":\n', "\n", " 3\n", ' {"text": "b"} \r\n', "[1]"
    )
    texts = [str(text) for _, text in rows_in(path)]
    assert (texts[0], texts[3]) == ("a", "b")
    assert texts[1].startswith("! line 2 is not JSON")
    assert texts[2].startswith("! line 4 is a JSON int, not an object")
    assert texts[4].startswith("! line 6 is a JSON list, not an object")


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("num_rows", [0, 1, 3000])
def test_a_list_is_read_piece_by_piece(tmp_path: Path, indent: int | None, num_rows: int) -> None:
    """A JSON list reads like lines, however it is laid out and wherever a piece of the file ends."""
    rows = [{"id": row, "text": "wörd " * (row % 97), "n": [row, {"x": "]},"}]} for row in range(num_rows)]
    path = tmp_path / "in.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False))
    assert rows_in(path) == [(row["id"], row["text"]) for row in rows]
    path.write_text("\n".join(json.dumps(row, indent=indent) for row in rows))  # one after the other
    assert rows_in(path) == [(row["id"], row["text"]) for row in rows]


def test_a_large_object_of_a_list(tmp_path: Path) -> None:
    """An object longer than a piece of the file is read whole; what is no object fails alone."""
    path = tmp_path / "in.json"
    path.write_text(json.dumps([12, {"text": "a" * 1_000_000}, {"text": "b"}, None]))
    (_, first), (_, second), third, (_, last) = rows_in(path)
    assert "value 1 is a JSON int" in str(first)
    assert second == "a" * 1_000_000
    assert third == (2, "b")
    assert "value 4 is a JSON null" in str(last)


def test_nested_columns_and_templates(tmp_path: Path) -> None:
    """`a.b` is the field b of a, unless a column has that name; a template uses several columns."""
    path = write(
        tmp_path / "a.jsonl",
        {"doc": {"title": "T", "n": 3}, "body": "B"},
        {"doc.title": "exact", "doc": {"title": "T"}},
        {"doc": None, "body": None},
        {"doc": {"title": "x", "n": [1, "ä"]}, "body": True},
    )
    assert [text for _, text in rows_in(path, text="doc.title")] == ["T", "exact", None, "x"]
    texts = [text for _, text in rows_in(path, template="{doc.title}: {doc.n}\\n{body} {{}}")]
    assert texts == ["T: 3\nB {}", "exact: \n {}", None, 'x: [1, "ä"]\ntrue {}']
    with pytest.raises(FileError, match=r"no column 'doc.x' .*choose one with --template"):
        rows_in(path, template="{doc.x}")


@pytest.mark.parametrize("template", ["no column", "{", "{}", "{a!r}", "{a:>5}"])
def test_a_bad_template_is_refused(tmp_path: Path, template: str) -> None:
    """A template without a plain column name is refused before anything is read."""
    with pytest.raises(InvalidOption, match="write columns as"):
        rows_in(write(tmp_path / "a.jsonl", {"a": "b"}), template=template)


def test_kept_columns_have_types(tmp_path: Path) -> None:
    """Kept columns get Arrow types by the first rows; values of several types are kept as JSON text."""
    path = write(
        tmp_path / "a.jsonl",
        {"id": 1, "text": "a", "n": 1, "x": 0.5, "tags": ["p"], "doc": {"y": 1}, "mixed": 1, "never": None},
        {"id": 2, "text": "b", "n": None, "x": 2, "tags": [], "doc": {"z": "s"}, "mixed": {"a": "b"}},
    )
    kept = kept_of(path)
    assert kept.column_names == ["text", "n", "x", "tags", "doc", "mixed", "never"]
    assert [str(field.type) for field in kept.schema][1:4] == ["int64", "double", "list<item: string>"]
    assert kept["doc"].to_pylist() == [{"y": 1, "z": None}, {"y": None, "z": "s"}]
    assert kept["mixed"].to_pylist() == ["1", '{"a": "b"}']
    assert kept_of(path, "doc.y", "n").to_pylist() == [{"doc.y": 1, "n": 1}, {"doc.y": None, "n": None}]


def test_a_kept_value_that_does_not_fit_fails_its_row(tmp_path: Path) -> None:
    """Nothing is lost or bent to fit: a value of another type, or a new field, fails the row that has it."""
    first = {"text": "a", "n": 1, "doc": [{"y": 1}]}
    path = write(
        tmp_path / "a.jsonl",
        *[first] * 5000,
        {**first, "n": "one"},
        {**first, "doc": [{"y": 1, "new": 2}]},
        {**first, "later": 1},
        {**first, "n": "\udc80"},
        first,
    )
    texts = [str(text) for _, text in rows_in(path, keep="all")][5000:]
    assert "column 'n' does not hold int64" in texts[0]
    assert "column 'doc' does not hold list<" in texts[1]
    assert "its column 'later', so it would be lost" in texts[2]
    assert "column 'n' does not hold int64" in texts[3]
    assert texts[4] == "a"
    assert kept_of(path)["n"].to_pylist()[4999:] == [1, None, 1, 1, None, 1]
    assert "no row at the beginning has the column 'later'" in notes_of(path, keep=("later",))
    assert kept_of(path, "later")["later"].to_pylist()[5002] == "1"


def test_numbers_that_become_fractions_are_one_type(tmp_path: Path) -> None:
    """Thousands of rows are looked at before a column is held to have whole numbers only."""
    path = write(tmp_path / "a.jsonl", *[{"text": "a", "price": 10}] * 2000, {"text": "b", "price": 9.5})
    assert rows_in(path, keep="all")[2000] == (2000, "b")
    assert kept_of(path)["price"].to_pylist()[1999:] == [10.0, 9.5]


def test_large_rows_are_not_all_looked_at_first(tmp_path: Path) -> None:
    """What is read before the first batch is bounded in size, not only in rows."""
    path = write(tmp_path / "a.jsonl", *[{"text": "a" * 1_000_000}] * 60)
    tracemalloc.start()
    with open_reader(str(path)):
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


def test_without_kept_columns_there_is_no_schema(tmp_path: Path) -> None:
    """A reader without kept columns has no schema for them."""
    path = write(tmp_path / "a.jsonl", {"text": "a"})
    with open_reader(str(path)) as reader:
        assert reader.kept_schema is None
    with open_reader(str(path), columns=Columns(keep=("text",))) as reader:
        assert reader.kept_schema == pa.schema([("text", pa.string())])
