"""What the arguments of a command stand for."""

import os
from pathlib import Path

import pytest

from producer.errors import FileError
from producer.files import expand, open_reader


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory as Spark and people leave them."""
    wanted = "b.jsonl", "a.csv.gz", "deep/er/c.parquet", "d.json.zst", "deep/a.jsonl", "[odd].txt"
    others = "_SUCCESS", "_tmp/x.jsonl", ".hidden.jsonl", ".git/y.jsonl", "README.md"
    for name in wanted + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "a"}\n')
    return tmp_path


def names(*arguments: Path | str) -> list[str]:
    return [source.name for source in expand([str(argument) for argument in arguments])]


def test_a_directory_stands_for_the_files_of_known_formats(data: Path) -> None:
    """All files below it, sorted, with their relative names; no hidden ones, none with _."""
    known = ["[odd].txt", "a.csv.gz", "b.jsonl", "d.json.zst", "deep/a.jsonl", "deep/er/c.parquet"]
    assert names(data) == names(f"{data}/") == known


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jsonl", ["b.jsonl"]),
        ("?.jsonl", ["b.jsonl"]),
        ("[ab].*", ["a.csv.gz", "b.jsonl"]),
        ("**/*.jsonl", ["b.jsonl", "deep/a.jsonl"]),
        ("deep/*.jsonl", ["a.jsonl"]),
        ("*.md", ["README.md"]),  # whoever names it wants it
        ("_tmp/*", ["x.jsonl"]),
        ("[odd].txt", ["[odd].txt"]),  # a file of that very name
    ],
)
def test_a_glob_stands_for_what_it_matches(data: Path, pattern: str, found: list[str]) -> None:
    """Names are relative to the directory above the first wildcard."""
    assert names(data / pattern) == found


def test_several_arguments_keep_their_order_and_get_names_of_their_own(data: Path) -> None:
    """A part that is named twice is taken once; equal names are told apart by their directories."""
    assert names(data / "b.jsonl", data / "a.csv.gz") == ["b.jsonl", "a.csv.gz"]
    assert names(data / "b.jsonl", data / "*.jsonl", data) == [
        "b.jsonl", "[odd].txt", "a.csv.gz", "d.json.zst", "deep/a.jsonl", "deep/er/c.parquet",
    ]  # fmt: skip
    other = data / "_tmp" / "b.jsonl"
    other.write_text('{"text": "a"}\n')
    assert names(data / "b.jsonl", other) == [f"{data.name}/b.jsonl", "_tmp/b.jsonl"]
    assert names("-") == ["stdin"]


def test_a_part_knows_its_size_and_version(data: Path) -> None:
    """The version changes when the content does; what is opened is the content."""
    path = data / "b.jsonl"
    (before,) = expand([str(path)])
    assert (before.location, before.size) == (str(path), path.stat().st_size)
    with before.open() as stream:
        assert stream.read() == path.read_bytes()
    assert expand([str(path)]) == [before]
    os.utime(path, ns=(1, 1))
    assert expand([str(path)])[0].etag_or_mtime != before.etag_or_mtime
    with open_reader(before) as reader:
        assert next(reader.batches(max_texts=1, max_bytes=1)).texts == ["a"]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("absent.jsonl", "there is no such file"),
        ("absent/*.jsonl", "nothing matches it"),
        ("empty", "there is no such file"),
        ("_none", "it holds no file with a known extension"),
    ],
)
def test_an_argument_that_stands_for_nothing_is_an_error(data: Path, argument: str, says: str) -> None:
    """No argument is passed over in silence."""
    (data / "empty").mkdir()
    (data / "_none").mkdir()
    (data / "_none" / "x.md").touch()
    with pytest.raises(FileError, match=says):
        expand([str(data / "b.jsonl"), str(data / argument)])
    with pytest.raises(FileError, match="no input was given"):
        expand([])


def test_file_urls_are_paths(data: Path) -> None:
    """file:// is a path of this machine, in whatever form it is escaped."""
    (source,) = expand([f"file://{data}/%5Bodd%5D.txt"])
    assert source.name == "[odd].txt"
    with source.open() as stream:
        assert stream.read()
