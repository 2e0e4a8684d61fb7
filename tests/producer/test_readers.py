"""Every input format gives the same rows, in bounded batches, and says what is wrong with a file."""

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from producer.errors import FileError
from producer.files import Columns, InputFormat, open_reader
from producer.files.rows import Id, in_batches
from producer.tables.table import Chunk

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROWS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=30)
in_tmp_path = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rows_of(
    path: Path, kind: InputFormat | None = None, *, max_texts: int = 7, **columns: Any
) -> list[tuple[Id, object]]:
    with open_reader(str(path), kind, columns=Columns(**columns)) as reader:
        batches = list(reader.batches(max_texts=max_texts, max_bytes=10_000))
    assert [batch.first for batch in batches] == [
        sum(len(before.ids) for before in batches[:number]) for number in range(len(batches))
    ]
    return [pair for batch in batches for pair in zip(batch.ids, batch.texts, strict=True)]


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("id", "text"), *rows])


def write_jsonl(path: Path, rows: list[tuple[str, str]]) -> None:
    path.write_text("".join(json.dumps({"id": one, "text": text}) + "\n" for one, text in rows))


def write_arrow(path: Path, rows: list[tuple[str, str]], new_file: Callable[..., Any]) -> pa.Table:
    table = pa.table({"id": [row[0] for row in rows], "text": [row[1] for row in rows]})
    with pa.OSFile(str(path), "wb") as sink, new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=11)
    return table


@in_tmp_path
@given(rows=ROWS)
def test_all_formats_agree(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    """The same ids and texts come out of JSONL, CSV, Parquet and both kinds of Arrow IPC, in order."""
    write_jsonl(tmp_path / "in.jsonl", rows)
    write_csv(tmp_path / "in.csv", rows)
    table = write_arrow(tmp_path / "in.arrow", rows, pa.ipc.new_file)
    write_arrow(tmp_path / "in.arrows", rows, pa.ipc.new_stream)
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=5)
    for name in ("in.jsonl", "in.csv", "in.arrow", "in.arrows", "in.parquet"):
        assert rows_of(tmp_path / name) == rows, name


@in_tmp_path
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0")), min_size=1)
)
def test_lines_are_texts(tmp_path: Path, texts: list[str]) -> None:
    """Each line is a text, whatever its characters; only a line feed ends it."""
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8", newline="")
    with path.open("rb") as file:
        has_bom = file.read(3) == b"\xef\xbb\xbf"
    expected = [texts[0].removeprefix("\ufeff") if has_bom else texts[0], *texts[1:]]
    assert rows_of(path) == list(enumerate(expected))


@given(
    texts=st.lists(st.one_of(st.none(), st.text(max_size=12)), max_size=50),
    max_texts=st.integers(1, 9),
    max_bytes=st.integers(1, 40),
)
def test_batches_keep_both_bounds(texts: list[str | None], max_texts: int, max_bytes: int) -> None:
    """No batch exceeds either bound unless one text alone does, and nothing is lost or reordered."""
    given: list[object] = [*texts]
    chunks = [Chunk(None, given[:9]), Chunk(None, given[9:])]
    batches = list(in_batches(chunks, max_texts=max_texts, max_bytes=max_bytes))
    assert [text for batch in batches for text in batch.texts] == texts
    for batch in batches:
        size = sum(
            len(text.encode("utf-8", "surrogatepass")) for text in batch.texts if isinstance(text, str)
        )
        assert 0 < len(batch.texts) <= max_texts
        assert size <= max_bytes or len(batch.texts) == 1


@pytest.mark.parametrize("name", ["in.txt", "in.jsonl", "in.csv"])
def test_gzip_and_byte_order_mark(tmp_path: Path, name: str) -> None:
    """A gzipped file with a UTF-8 byte order mark reads like the plain one."""
    body = {
        "in.txt": "ä\r\nb\n",
        "in.jsonl": '{"text": "ä"}\n\n{"text": "b"}',
        "in.csv": "text\r\nä\r\nb\r\n",
    }
    plain, packed = tmp_path / name, tmp_path / f"{name}.gz"
    plain.write_text(body[name], encoding="utf-8", newline="")
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + body[name].encode()))
    assert rows_of(plain) == rows_of(packed) == [(0, "ä"), (1, "b")]


def test_ids_keep_integers_of_arrow(tmp_path: Path) -> None:
    """Integer ids stay integers in a typed file and in JSONL, empty ones stay empty."""
    parquet.write_table(pa.table({"_id": [7, None], "text": ["a", "b"]}), tmp_path / "in.parquet")
    (tmp_path / "in.jsonl").write_text('{"_id": 7, "text": "a"}\n{"text": "b"}\n')
    assert rows_of(tmp_path / "in.parquet") == [(7, "a"), (None, "b")]
    assert rows_of(tmp_path / "in.jsonl") == [(7, "a"), (None, "b")]
    with open_reader(str(tmp_path / "in.parquet")) as typed, open_reader(str(tmp_path / "in.jsonl")) as json_:
        assert (typed.id_type, json_.id_type) == ("int64", "int64")


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    """--text-column and --id-column name any column; the default id is not taken then."""
    write_csv(tmp_path / "in.csv", [("1", "a")])
    assert rows_of(tmp_path / "in.csv", text="id", id="text") == [("a", "1")]
    assert rows_of(tmp_path / "in.csv", text="id") == [(0, "1")]


def test_damaged_texts_are_rows(tmp_path: Path) -> None:
    """A text that is null, no string, missing or no UTF-8 is a row like others, for the client to refuse."""
    (tmp_path / "in.jsonl").write_bytes(b'{"text": null}\n{"text": 3}\n{"x": 1}\n{"text": "\xff"}\n')
    damaged = pa.StringArray.from_buffers(2, *pa.array([b"\xff", b"ok"]).buffers()[1:])
    parquet.write_table(pa.table({"text": damaged}), tmp_path / "in.parquet")
    assert rows_of(tmp_path / "in.jsonl") == [(0, None), (1, 3), (2, None), (3, "\udcff")]
    assert rows_of(tmp_path / "in.parquet") == [(0, "\udcff"), (1, "ok")]


def test_a_dictionary_column_is_text(tmp_path: Path) -> None:
    """Dictionary-encoded and large strings are texts too."""
    table = pa.table(
        {
            "text": pa.array(["a", "b", "a"]).dictionary_encode(),
            "id": pa.array(list("xyz"), pa.large_string()),
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet")
    assert rows_of(tmp_path / "in.parquet") == [("x", "a"), ("y", "b"), ("z", "a")]


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("in.jsonl", b'{"body": "a", "title": "b"}\n', "'body', 'title'"),
        ("in.csv", b"body,title\na,b\n", "'body', 'title'"),
        ("in.csv", b"", "found: none"),
        ("in.jsonl", b"some text\n", "line 1 is not JSON"),
        ("in.jsonl", b'{"text":' * 100_000, "line 1 is not JSON"),
        ("in.jsonl", b'["a"]\n', "a JSON list, not an object on each line"),
        ("in.json", b'{"data": [{"text": "a"}]}', "found: 'data'"),
        ("in.json", b'[{"text": "a"}, {"text": ', "not JSON"),
        ("in.json", b'[{"text": "a"}, ', "ends within the list"),
        ("in.json", b"[" * 100_000, "not JSON"),
        ("in.csv", b'text\n"never closed\n', "not CSV"),
        ("in.csv", b"text,text\na,b\n", "two columns are named 'text'"),
        ("in.parquet", b"PAR1 half of it", "cannot be read"),
        ("in.arrow", b"ARROW1\0\0 half of it", "cannot be read"),
        ("in.arrow", b"", "cannot be read"),
        ("in.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 999, mtime=0)[:-9], "cannot be read"),
        ("in.csv.gz", b"not gzip", "cannot be read"),
        ("in.feather", b"FEA1 and more", "Feather version 1"),
        ("in.orc", b"ORC half of it", "cannot be read"),
        ("in.jsonl.zst", b"not zstd", "cannot be read"),
        ("in.csv.bz2", b"not bzip2", "cannot be read"),
        ("in.txt.xz", b"not xz", "cannot be read"),
        ("in.parquet.gz", b"", "decompress it first"),
        ("in.xlsx", b"", "unknown file extension"),
    ],
)
def test_a_bad_file_is_an_error_that_names_it(tmp_path: Path, name: str, body: bytes, says: str) -> None:
    """What cannot be read is FileError with the file's name and the reason."""
    path = tmp_path / name
    path.write_bytes(body)
    with pytest.raises(FileError, match=says) as caught:
        rows_of(path)
    assert str(path) in str(caught.value)


def test_a_half_written_parquet_file_is_an_error(tmp_path: Path) -> None:
    """A Parquet file cut anywhere is refused, with nothing read from it."""
    path = tmp_path / "in.parquet"
    parquet.write_table(pa.table({"text": ["some text"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileError, match="cannot be read"):
        open_reader(str(path))


def test_a_column_of_numbers_is_refused(tmp_path: Path) -> None:
    """A typed column that holds no text is named with its type before anything is sent."""
    parquet.write_table(pa.table({"text": [1, 2]}), tmp_path / "in.parquet")
    with pytest.raises(FileError, match="holds int64, not text"):
        open_reader(str(tmp_path / "in.parquet"))


def test_missing_files_and_directories_are_errors(tmp_path: Path) -> None:
    """A path that is absent or a directory is FileError in every format."""
    for name in ("absent.jsonl", "absent.parquet", "absent.arrow"):
        with pytest.raises(FileError, match=name):
            open_reader(str(tmp_path / name))
    with pytest.raises(FileError, match="it is a directory"):
        open_reader(str(tmp_path), InputFormat.LINES)


def test_the_size_is_known_or_estimated(tmp_path: Path) -> None:
    """Parquet says its number of rows; that of a text file is estimated by its bytes, exact at the end."""
    parquet.write_table(pa.table({"text": ["a"] * 5000}), tmp_path / "in.parquet")
    (tmp_path / "in.txt").write_text("some words\n" * 50_000)
    with open_reader(str(tmp_path / "in.parquet")) as reader:
        assert reader.estimated_rows() == 5000
    with open_reader(str(tmp_path / "in.txt")) as reader:
        batches = reader.batches(max_texts=2048, max_bytes=10**6)
        next(batches)
        assert reader.estimated_rows() == pytest.approx(50_000, rel=0.25)
        assert sum(len(batch.texts) for batch in batches) == 50_000 - 2048
        assert reader.estimated_rows() == 50_000


def test_standard_input_holds_lines_or_what_it_is_said_to(tmp_path: Path) -> None:
    """ "-" is standard input: lines by default, JSONL and CSV on request, never Parquet."""
    program = (
        "import sys; from producer.files import *\n"
        "kind = InputFormat(sys.argv[1])\n"
        "with open_reader('-', kind) as reader:\n"
        "    print([batch.texts for batch in reader.batches(max_texts=2, max_bytes=99)])\n"
    )
    for kind, body in (("lines", "a\nb\nc"), ("jsonl", '{"text":"a"}\n{"text":"b"}\n{"text":"c"}')):
        done = subprocess.run(
            [sys.executable, "-c", program, kind], input=body, capture_output=True, text=True, check=True
        )
        assert done.stdout == "[['a', 'b'], ['c']]\n"
    with pytest.raises(FileError, match="standard input"):
        open_reader("-", InputFormat.PARQUET)


def test_text_formats_need_no_pyarrow(tmp_path: Path) -> None:
    """Without pyarrow JSONL is read, and Parquet is refused naming the extra that brings it."""
    write_jsonl(tmp_path / "in.jsonl", [("1", "a")])
    parquet_file = tmp_path / "in.parquet"
    parquet.write_table(pa.table({"text": ["a"]}), parquet_file)
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from producer.files import open_reader; from producer.errors import FileError\n"
        "with open_reader(sys.argv[1]) as reader:\n"
        "    print(len(list(reader.batches(max_texts=1, max_bytes=1))))\n"
        "try: open_reader(sys.argv[2])\n"
        "except FileError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "in.jsonl"), str(parquet_file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("1\n")
    assert "embedmill[files]" in done.stdout
