"""Embedmill beside other queues on Redis, one after the other: prints a table. See README.md.

python -m benchmarks.queue_peers.compare --peers-python /tmp/peers/bin/python [--jobs 2000] [--json FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError

from producer.embedded.services import find_server

ROOT = Path(__file__).parents[2]
PEERS = ("celery", "dramatiq", "taskiq", "saq", "arq")
COLUMNS = {
    "jobs/s": "jobs_per_s",
    "p50, ms": "p50_ms",
    "commands a job": "commands_per_job",
    "idle commands/s": "idle_commands_per_s",
}
LIMIT_S = 600
PORT = 23_879


@contextmanager
def server(program: str) -> Iterator[str]:
    """The URL of an empty server; by TCP, since not every library takes a unix socket."""
    with tempfile.TemporaryDirectory() as directory:
        command = [program, "--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not _answers():
                assert process.poll() is None, f"{program} ended; is port {PORT} taken?"
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{PORT}"
        finally:
            process.kill()
            process.wait()


def _answers() -> bool:
    try:
        return bool(Redis(port=PORT).ping())
    except ConnectionError:
        return False


def measured(name: str, python: str, *, program: str, num_jobs: int) -> dict[str, float]:
    """The columns for one queue; a line says so if it failed."""
    with server(program) as url, tempfile.TemporaryFile("w+") as log:
        names = {"EMBEDMILL_REDIS_URL": url, "EMBEDMILL_MODEL": "fake/echo", "PYTHONPATH": str(ROOT)}
        command = [python, "-m", "benchmarks.queue_peers.drive", name, str(num_jobs)]
        run = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **names, "PEER_URL": url},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if run.returncode:
            log.seek(0)
            print(f"{name} failed:\n{log.read()[-3000:]}", file=sys.stderr)
            return {}
        found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers-python", required=True, help="an interpreter that has the other libraries")
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--only", nargs="*", choices=["embedmill", *PEERS])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    program, rows = find_server(), {}
    print(f"| queue | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for name in arguments.only or ("embedmill", *PEERS):
        python = sys.executable if name == "embedmill" else arguments.peers_python
        rows[name] = measured(name, python, program=program, num_jobs=arguments.jobs)
        cells = [f"{rows[name].get(key, float('nan')):,.1f}" for key in COLUMNS.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
