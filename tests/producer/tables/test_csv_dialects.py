"""CSV files of any dialect and encoding: what is found out is right, and said."""

from pathlib import Path

import pytest
from support.inputs import kept_of, notes_of, rows_in

from producer.errors import FileError, InvalidOption
from producer.files import Dialect


@pytest.mark.parametrize(
    ("name", "body", "rows", "says"),
    [
        ("in.csv", 'id,text\n1,"hello, world"\n', [("1", "hello, world")], ""),
        ("in.csv", 'id;text\n1;"hello, world"\n', [("1", "hello, world")], "delimiter semicolon"),
        ("in.csv", "id;text\n1;so, it goes, on\n", [("1", "so, it goes, on")], "delimiter semicolon"),
        ("in.csv", "id|text\n1|hello\n", [("1", "hello")], "delimiter pipe"),
        ("in.csv", "id\ttext\n1\thello\n", [("1", "hello")], "delimiter tab"),
        ("in.tsv", "id\ttext\n1\thello\n", [("1", "hello")], ""),
        ("in.tsv", 'id\ttext\n1\t"hi" he said\n', [("1", '"hi" he said')], "no quotes"),
        ("in.tsv", 'id\ttext\n1\t"two\nlines"\n', [("1", "two\nlines")], ""),
        ("in.csv", "sep=;\nid;text\n1;hello\n", [("1", "hello")], "delimiter semicolon"),
        ("in.csv", "id,text\n1,hello,\n2,bye\n", [("1", "hello"), ("2", "bye")], ""),
        ("in.csv", 'id,text\n1,"he said \\"hi\\" ok"\n', [("1", 'he said "hi" ok')], "escaped by \\"),
        ("in.csv", 'id,text\n1,"he said ""hi"""\n', [("1", 'he said "hi"')], ""),
        ("in.csv", 'id, text\n1, "a, b"\n', [("1", "a, b")], "spaces after delimiters skipped"),
        ("in.csv", "'id','text'\n'1','it''s, ok'\n", [("1", "it's, ok")], "quote '"),
        ("in.csv", "text\nsome, words\n", [(0, "some, words")], "delimiter semicolon"),
        ("in.csv", "id,text\r1,a\r2,b\r", [("1", "a"), ("2", "b")], ""),
        ("in.csv", 'id,text\r\n1,"a\r\nb"\r\n\r\n2,c', [("1", "a\r\nb"), ("2", "c")], ""),
    ],
)
def test_the_dialect_is_found_out_and_said(
    tmp_path: Path, name: str, body: str, rows: list[tuple[object, str]], says: str
) -> None:
    """Delimiter, quote and escape are taken from the beginning of the file; whatever is unusual is said."""
    path = tmp_path / name
    path.write_text(body, encoding="utf-8", newline="")
    assert rows_in(path) == rows
    assert (says in notes_of(path)) if says else notes_of(path) == ""


def test_the_user_may_say_the_dialect(tmp_path: Path) -> None:
    """A delimiter and a quote that are given are used; one that is no character is refused."""
    path = tmp_path / "in.csv"
    path.write_text("id:text\n1:^a:b^\n")
    assert rows_in(path, Dialect(delimiter=":", quote="^")) == [("1", "a:b")]
    path.write_text("id\ttext,more\n1\ta\n")
    assert rows_in(path, Dialect(delimiter="\\t"), text="text,more") == [("1", "a")]
    with pytest.raises(InvalidOption, match="one character"):
        Dialect(delimiter=";;")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_recognised(tmp_path: Path, encoding: str) -> None:
    """UTF-8, UTF-16 and UTF-32 are recognised, by their marks or by their zeros, and said if unusual."""
    path = tmp_path / "in.csv"
    path.write_bytes("id,text\r\n1,some wörds\r\n".encode(encoding))
    assert rows_in(path) == [("1", "some wörds")]
    assert ("read as utf" in notes_of(path)) == (not encoding.startswith("utf-8"))


def test_a_code_page_is_never_guessed(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 fail their rows, and it is said how to name the encoding."""
    path = tmp_path / "in.csv"
    path.write_bytes("id;text\n1;größer\n2;plain\n".encode("cp1252"))
    assert rows_in(path) == [("1", "gr\udcf6\udcdfer"), ("2", "plain")]  # the client refuses such a text
    assert "--encoding cp1252" in notes_of(path)
    assert rows_in(path, Dialect(encoding="cp1252")) == [("1", "größer"), ("2", "plain")]
    with pytest.raises(InvalidOption, match="no encoding 'klingon'"):
        rows_in(path, Dialect(encoding="klingon"))


def test_a_broken_record_fails_alone(tmp_path: Path) -> None:
    """Too few or too many fields, a stray quote and a NUL byte fail their own row, with the line's number."""
    path = tmp_path / "in.csv"
    good = "".join(f"{row},fine\n" for row in range(10, 20))
    path.write_bytes(b'id,text\n1,"a"b\n2\n3,a,b\n4,a\0b\n5,ok\n' + good.encode())
    rows = rows_in(path)
    assert [text for _, text in rows[4:]] == ["ok"] + ["fine"] * 10
    reasons = [str(text) for _, text in rows[:4]]
    wanted = "line 2 is not CSV", "1 fields, but the header has 2", "line 4 has 3 fields", "NUL byte"
    assert all(part in reason for part, reason in zip(wanted, reasons, strict=True)), reasons


def test_an_unclosed_quote_is_an_error_that_names_its_line(tmp_path: Path) -> None:
    """A quote that swallows the rest of the file is no row's fault: the line where it opens is named."""
    path = tmp_path / "in.csv"
    path.write_text('text\n"fine"\n"never\nclosed\n')
    with pytest.raises(FileError, match="line 3: not CSV, a quote opens"):
        rows_in(path)


def test_kept_columns_are_text(tmp_path: Path) -> None:
    """All columns but that of the ids are kept as they are written; a missing field is null."""
    path = tmp_path / "in.csv"
    path.write_text("id,text,n,\n007,a,1.50,x\n8,b\n")
    assert rows_in(path) == [("007", "a"), ("8", "b")]
    assert kept_of(path).to_pylist() == [{"text": "a", "n": "1.50"}, {"text": "b", "n": None}]
    assert rows_in(path, id_type="int64") == [(7, "a"), (8, "b")]
