"""Measures `producer embed` on a dataset: rows per second, and the memory of the producer as it goes.

    python -m benchmarks.end_to_end.datasets --rows 1000000 --parts 20 --format parquet --format jsonl

A server and a worker with the fake backend (384 dimensions) run beside it. For each format it prints JSON:
rows per second of the whole run, and the producer's resident MiB at a tenth of the rows and at its largest.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
from pyarrow import parquet

from benchmarks.support.serving import host
from producer.embedded.services import EmbeddedServer

MODEL = "fake/echo"
_SAMPLE_S = 0.2
_WORDS = "every row has a sentence of about fifteen words, as long as those of a search engine are"


def write_inputs(folder: Path, *, rows: int, parts: int) -> None:
    """Parquet parts of three columns, the same in every run."""
    folder.mkdir()
    for number in range(parts):
        at = range(rows * number // parts, rows * (number + 1) // parts)
        columns = {
            "id": [f"row-{row}" for row in at],
            "text": [f"{_WORDS} {row}" for row in at],
            "score": [row / 7 for row in at],
        }
        parquet.write_table(pa.table(columns), folder / f"part-{number:04}.parquet")


def memory_of(process: subprocess.Popen[bytes], out: Path, *, parts: int) -> Iterator[tuple[float, float]]:
    """The share of the parts that are finished, and resident MiB, until the process ends."""
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        done = len(list(out.glob("part-*")))
        try:
            yield done / parts, watched.memory_info().rss / 2**20
        except psutil.Error:
            return
        time.sleep(_SAMPLE_S)


def measure(url: str, folder: Path, kind: str, *, rows: int, parts: int, columns: str) -> dict[str, object]:
    """One run of the command."""
    out = folder / f"out-{kind}"
    command = [sys.executable, "-m", "producer", "embed", str(folder / "in"), "-o", str(out), "--quiet"]
    options = ["--model", MODEL, "--redis-url", url, "--output-format", kind, "--keep-columns", columns]
    started_s = time.monotonic()
    with subprocess.Popen([*command, *options]) as process:
        memory = list(memory_of(process, out, parts=parts))
    seconds = time.monotonic() - started_s
    if process.returncode:
        raise SystemExit(f"the run ended with status {process.returncode}")
    return {
        "format": kind,
        "rows": rows,
        "rows_per_s": round(rows / seconds),
        "seconds": round(seconds, 1),
        "mib_at_a_tenth": round(max((mib for done, mib in memory if done <= 0.1), default=0.0)),
        "mib_at_most": round(max(mib for _, mib in memory)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=20)
    parser.add_argument("--format", action="append", default=[])
    parser.add_argument("--keep-columns", default="none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, EmbeddedServer() as server:
        folder = Path(name)
        write_inputs(folder / "in", rows=given.rows, parts=given.parts)
        env = {**os.environ, "EMBEDMILL_MODEL": MODEL, "EMBEDMILL_REDIS_URL": server.url}
        with host(env):
            for kind in given.format or ["parquet", "jsonl"]:
                found = measure(
                    server.url, folder, kind, rows=given.rows, parts=given.parts, columns=given.keep_columns
                )
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
