"""Files that processes share: replaced atomically, locked, and read only if they have the right shape."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from producer.atomic import replace_file
from worker.storage.lock import FileLock, locked
from worker.storage.model_lock import ModelLock, unused
from worker.storage.records import RecordOwner, read_record, write_record


class Record(msgspec.Struct):
    """A record with a list, bytes and its owner."""

    owner: RecordOwner
    sizes: list[int]
    content: bytes = b""


RECORD = Record(owner=RecordOwner(model="m"), sizes=[1, 2], content=b"\xff\x00")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    """Through folders that are made for it; nothing else is left there."""
    path = tmp_path / "a/b/record.json"
    write_record(path, RECORD)
    assert read_record(path, Record) == RECORD
    assert [each.name for each in path.parent.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"owner": {}, "sizes": [1, "2"]}',
        b'{"owner": {}, "sizes": [], "content": "not base64"}',
        b'{"owner": {"model": "\xff"}, "sizes": []}',
        b"[" * 100_000,
        b'{"owner": {}, "sizes": [], "other": ' + b"[" * 100_000,
    ],
    ids=range(10),
)
def test_a_record_of_another_shape_counts_as_absent(tmp_path: Path, content: bytes) -> None:
    """Whatever the file holds, and if there is none."""
    path = tmp_path / "record.json"
    assert read_record(path, Record) is None
    path.write_bytes(content)
    assert read_record(path, Record) is None
    assert read_record(path / "below", Record) is None


def test_a_record_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cache that is read-only or full costs time at the next boot, and nothing else."""
    caplog.set_level("WARNING")
    (tmp_path / "file").touch()
    write_record(tmp_path / "file/record.json", RECORD)
    assert "cache_not_written" in caplog.text


def test_a_file_is_replaced_or_stays_as_it_was(tmp_path: Path) -> None:
    """Others may read it, by the process's umask; a write that fails leaves nothing behind."""
    path = tmp_path / ("x" * 250)
    replace_file(path, b"old")
    with pytest.raises(TypeError):
        replace_file(path, b"new", None)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    replace_file(path, b"n", b"ew")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_lock_is_exclusive_until_it_is_closed(tmp_path: Path) -> None:
    """Between processes too, and a process that ends leaves it free."""
    path = tmp_path / "folder/lock"
    program = (
        "import sys; from pathlib import Path; from worker.storage.lock import FileLock\n"
        "print(FileLock(Path(sys.argv[1])).try_exclusive())"
    )

    def by_another_process() -> str:
        ran = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()

    with locked(path, waiting="waiting", reason="never") as lock:
        assert not lock.waited
        assert by_another_process() == "False"
    assert by_another_process() == "True"
    assert FileLock(path).try_exclusive()


def test_a_shared_lock_excludes_an_exclusive_one(tmp_path: Path) -> None:
    """Several processes may share it."""
    first, second, alone = (FileLock(tmp_path / "lock") for _ in range(3))
    first.shared()
    second.shared()
    assert not alone.try_exclusive()
    first.close()
    second.close()
    second.close()
    assert alone.try_exclusive()


def test_a_model_is_unused_once_all_its_workers_have_ended(tmp_path: Path) -> None:
    """Another model's workers do not matter, nor does a cache that cannot be locked."""
    first, second = ModelLock(tmp_path, "org/a"), ModelLock(tmp_path, "org/a")
    other = ModelLock(tmp_path, "org/b")
    first.close()
    with unused(tmp_path, "org/a") as is_unused:
        assert not is_unused
    second.close()
    with unused(tmp_path, "org/a") as is_unused:
        assert is_unused
    other.close()
    (tmp_path / "file").touch()
    ModelLock(tmp_path / "file", "org/a").close()
    with unused(tmp_path / "file", "org/a") as is_unused:
        assert is_unused
