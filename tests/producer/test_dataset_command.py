"""`producer embed` with a directory of parts: what it prints, and how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet
from support.datasets import CountingEmbedder, part_table, write_parts
from support.paths import ROOT

from producer.cli.main import main


class Client(CountingEmbedder):
    """The embedder with what the command asks a client beside."""

    num_withdrawn = 0

    async def num_workers(self) -> int:
        return 1


class Broken(Client):
    """Has a fault, with a text in its message."""

    async def embed(self, texts: Any, options: Any) -> Any:
        raise KeyError(texts[0])


def embed(*arguments: object, client: type[Client] = Client) -> Result:
    @asynccontextmanager
    async def connect(redis_url: str, **_: object) -> AsyncIterator[Client]:
        yield client()

    return CliRunner().invoke(main, ["embed", *map(str, arguments), "--model", "m"], obj=connect)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with three parts of twenty rows in `in`."""
    monkeypatch.chdir(tmp_path)
    write_parts(tmp_path / "in", parts=3, size=20)
    return tmp_path


def test_a_directory_makes_a_directory(folder: Path) -> None:
    """Status 0 and a summary; then it is up to date, and a changed input needs a decision."""
    result = embed("in", "-o", "out")
    assert (result.exit_code, "output     out (3 parts, " in result.stdout) == (0, True)
    again = embed("in", "-o", "out")
    assert (again.exit_code, again.output) == (0, "up to date: out has all 3 parts with 60 rows\n")
    write_parts(folder / "in", parts=3, size=20, changed=lambda row: row == 3)
    refused = embed("in", "-o", "out")
    assert (refused.exit_code, "--only-new" in refused.stderr) == (2, True)
    updated = embed("in", "-o", "out", "--only-new")
    assert (updated.exit_code, "unchanged  59 rows" in updated.stdout) == (0, True)


def test_several_inputs_do_not_make_a_file(folder: Path) -> None:
    """Nor does an address; a directory of that name is made if it ends with a slash."""
    for more in (["in", "-o", "out.parquet"], ["in/part-000.parquet", "-o", "x.npy", "--rows-per-file", "9"]):
        result = embed(*more)
        assert (result.exit_code, "end it with /" in result.stderr) == (2, True)
    assert embed("in", "-o", "out.parquet/").exit_code == 0
    assert parquet.read_table(folder / "out.parquet").num_rows == 60


def test_failed_texts_are_1_and_unreadable_inputs_2(folder: Path) -> None:
    """With the place of the errors, and the first input that could not be read."""
    table = part_table(60, 1).set_column(1, "text", [["too long"]])
    parquet.write_table(table, folder / "in" / "part-003.parquet")
    result = embed("in", "-o", "out")
    assert (result.exit_code, "errors     out/_errors" in result.stdout) == (1, True)
    (error,) = (folder / "out" / "_errors" / "part-003.parquet.jsonl").read_text().splitlines()
    assert (json.loads(error)["id"], json.loads(error)["code"]) == ("id60", "too_long")
    (folder / "in" / "part-004.parquet").write_bytes(b"PAR1 and nothing else")
    result = embed("in", "-o", "out")
    assert result.exit_code == 2
    assert "1 of 1 inputs could not be read, the first: in/part-004.parquet" in result.stderr
    assert "Traceback" not in result.output


def test_a_fault_of_the_program_is_4(folder: Path) -> None:
    """Never the status of failed texts, and no text is told."""
    result = embed("in", "-o", "out", client=Broken)
    assert result.exit_code == 4
    assert "error [internal]: KeyError at " in result.stderr
    assert "text of row" not in result.output


def test_an_output_in_the_input_is_not_read(folder: Path) -> None:
    """A directory that holds both is embedded once, and again without its own vectors."""
    assert embed("in", "-o", "in/vectors/").exit_code == 0
    assert embed("in", "-o", "in/vectors/").output.startswith("up to date")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in", "-o", "out", "--shard", "3/2"], "--shard must be written as 3/8"),
        (["in", "-o", "out", "--shard", "1/2", "--overwrite"], "the parts of the other shares"),
        (["nothing", "-o", "out/"], "nothing"),
        (["in", "-o", "in/"], "choose another output"),
        (["in", "-o", "out", "--keep-columns", "absent"], "absent"),
        (["in", "-o", "out", "--keep-columns", "lang", "--output-format", "npy"], "--keep-columns none"),
        (["in", "-o", "nosuch://bucket/out"], "nosuch://"),
    ],
)
def test_wrong_usage_is_2(folder: Path, arguments: list[str], says: str) -> None:
    """One line that says what to do, and nothing embedded."""
    result = embed(*arguments)
    assert (result.exit_code, says in result.stderr) == (2, True), result.output
    assert "Traceback" not in result.output


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    """And tells what is to be done, by a sample of the texts; afterwards what is left."""
    result = embed("in", "-o", "out/", "--dry-run")
    assert result.exit_code == 0
    assert "rows       about 60" in result.stdout
    assert os.listdir(folder) == ["in"]
    embed("in", "-o", "out/")
    result = embed("in", "-o", "out/", "--dry-run")
    assert "done       3 parts with 60 rows\nto embed   nothing" in result.stdout


PRINTING = """
from producer.cli.exit_status import exit_status, print_lines
with exit_status():
    print_lines(["a line"])
"""


@pytest.mark.parametrize(("redirected", "status"), [("> /dev/full", 2), ("| true; exit ${PIPESTATUS[0]}", 0)])
def test_an_output_that_takes_nothing(redirected: str, status: int) -> None:
    """A full one is a sentence; who has closed it does not want to read, which is no failed text."""
    command = f"{sys.executable} -c '{PRINTING}' {redirected}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env, check=False)
    assert (ran.returncode, "Traceback" in ran.stderr) == (status, False)
    assert status == 0 or "standard output cannot be written (No space left on device)" in ran.stderr
