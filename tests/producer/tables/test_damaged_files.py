"""No file ends in a traceback: whatever was done to it, there are rows or a FileError."""

import random
from contextlib import suppress
from pathlib import Path

import pytest
from support.inputs import batches_of
from support.paths import ROOT

from producer.errors import FileError

FOLDER = ROOT / "tests" / "data" / "odd_files"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.name not in ("make.py", "expected.json"))
SUFFIXES = [".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet", ".arrow", ".orc"]
SUFFIXES += [".jsonl.gz", ".csv.zst", ".txt.xz", ".json.bz2"]


def damaged(body: bytes, chance: random.Random) -> bytes:
    """The bytes after an accident: cut, overwritten, doubled, or with a hole of zeros."""
    at, size = chance.randrange(len(body)), chance.randrange(1, 40)
    match chance.randrange(5):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + chance.randbytes(size) + body[at + size :]
        case 2:
            return body[:at] + body[max(0, at - size) :]
        case 3:
            return body[:at] + bytes(size) + body[at + size :]
        case _:
            return body[:at] + bytes([body[at] ^ 1 << chance.randrange(8)]) + body[at + 1 :]


def read(path: Path) -> None:
    for keep in ((), "all"):
        with suppress(FileError):
            batches_of(path, keep=keep)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_gives_rows_or_a_sentence(tmp_path: Path, name: str) -> None:
    """Fifteen accidents to each file of another program."""
    body, chance = (FOLDER / name).read_bytes(), random.Random(name)
    path = tmp_path / name
    for _ in range(15):
        path.write_bytes(damaged(body, chance))
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_another_kind_gives_rows_or_a_sentence(tmp_path: Path, suffix: str) -> None:
    """An extension that lies, and noise."""
    chance = random.Random(suffix)
    bodies = [(FOLDER / name).read_bytes() for name in FILES]
    bodies += [
        b"",
        b"\0" * 3000,
        b"\n" * 3000,
        chance.randbytes(3000),
        b"\xff\xfe",
        b'"',
        b"{",
        b"[",
        b"[1,",
        b"PAR1PAR1",
    ]
    path = tmp_path / f"in{suffix}"
    for body in bodies:
        path.write_bytes(body)
        read(path)
