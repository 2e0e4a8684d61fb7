"""Local files are written whole or not at all."""

from pathlib import Path

import pytest

from producer.errors import FileError
from producer.files import open_filesystem


def test_files_are_written_listed_and_deleted(tmp_path: Path) -> None:
    """A file that is put or written is there whole, with its directories; a deleted one is gone."""
    filesystem, root = open_filesystem(str(tmp_path / "out"))
    draft = tmp_path / "draft"
    draft.write_bytes(b"part")
    filesystem.put(draft, f"{root}/a/part.parquet")
    filesystem.write(f"{root}/_manifest.json", b"{}")
    filesystem.write(f"{root}/_manifest.json", b"{1}")
    assert not draft.exists()
    found = filesystem.list(root)
    assert [(Path(each.path).name, each.size) for each in found] == [
        ("_manifest.json", 3),
        ("part.parquet", 4),
    ]
    assert filesystem.stat(found[1].path) == found[1]
    with filesystem.open(found[1].path) as stream:
        assert stream.read() == b"part"
    filesystem.delete(found[0].path)
    filesystem.delete(found[0].path)
    assert filesystem.stat(found[0].path) is None
    assert filesystem.list(f"{root}/absent") == []


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A path below a file cannot be written, and says so."""
    (tmp_path / "file").touch()
    filesystem, root = open_filesystem(str(tmp_path / "file"))
    with pytest.raises(FileError, match="cannot be written"):
        filesystem.write(f"{root}/x", b"")
    with pytest.raises(FileError, match="cannot be read"):
        filesystem.open(f"{root}/x")
