"""A worker as a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.serving import MODEL


@contextmanager
def process(log: Path, redis_url: str, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """`worker run` with the fake profile, ready to take jobs; in the end it and its workers are killed."""
    names = {f"EMBEDMILL_{name.upper()}": str(value) for name, value in settings.items()}
    env = {**os.environ, "EMBEDMILL_REDIS_URL": redis_url, "EMBEDMILL_MODEL": MODEL, **names}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "worker", "run"]
        started = subprocess.Popen(command, env=env, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while b"worker_ready" not in log.read_bytes():
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield started
    finally:
        # A worker that outlives its parent for a moment would take the next test's jobs.
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
