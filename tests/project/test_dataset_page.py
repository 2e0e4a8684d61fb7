"""Every command and program of docs/howto/dataset.md does what the page says, in its order."""

import asyncio
import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from redis.asyncio import Redis
from support.datasets import part_table, write_parts
from support.paths import ROOT
from support.serving import MODEL, worker

from producer.embedded.services import EmbeddedServer

PAGE = (ROOT / "docs" / "howto" / "dataset.md").read_text()
COMMANDS = re.findall(r"^    (producer .+)$", PAGE, re.MULTILINE)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


async def shell(command: str, folder: Path) -> str:
    """The output of a command that has to succeed."""
    process = await asyncio.create_subprocess_shell(
        command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, f"{command}\n{errors.decode()}"
    return output.decode()


def as_here(command: str, url: str, folder: Path) -> str:
    """The command with the tests' model and server, and a directory in place of a bucket."""
    local = command.replace("all-MiniLM-L6-v2", MODEL)
    local = local.replace("s3://corpus/data", f"file://{folder}/data")
    local = local.replace("s3://corpus/vectors", f"file://{folder}/stored")
    program = f"PYTHONPATH={ROOT} {sys.executable} -m producer"
    return f"{local.replace('producer', program, 1)} --redis-url {url}"


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_page_runs(redis: Redis, server: EmbeddedServer, tmp_path: Path) -> None:
    """From the first command to the last program; between them inputs change as the text says."""
    write_parts(tmp_path / "data", parts=3, size=1500)
    told: list[str] = []
    async with worker(server.url):
        for given in COMMANDS:
            command = as_here(given, server.url, tmp_path)
            if "--only-new" in given:
                table = part_table(0, 1500, changed=lambda row: row % 100 == 0)
                texts = ["word " * 3000, *table["text"].to_pylist()[1:]]
                parquet.write_table(
                    table.set_column(1, "text", pa.array(texts)), tmp_path / "data" / "part-000.parquet"
                )
            if "--only-new" in given or "--shard" in given:  # the one text that is too long makes status 1
                command += " || [ $? = 1 ]"
            told.append(await shell(command, tmp_path))
        for program in PROGRAMS:
            await shell(f"{sys.executable} -c '{program}'", tmp_path)
    first, by_size, _, dry, again, new, retried, *_ = told
    assert "(3 parts" in first
    assert "(6 parts" in by_size
    assert "by a sample of 256" in dry
    assert again == "up to date: vectors has all 3 parts with 4,500 rows\n"
    assert "unchanged  1,485 rows" in new
    assert "text_too_long  1" in new
    assert "unchanged  1,499 rows" in retried
    assert "failed     0" in retried
    assert parquet.read_table(tmp_path / "shared-vectors").num_rows == 4500
