"""A worker as a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.serving import MODEL


@contextmanager
def process(log: Path, redis_url: str, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """`worker run` with the fake profile, ready to take jobs."""
    names = {f"EMBEDMILL_{name.upper()}": str(value) for name, value in settings.items()}
    env = {**os.environ, "EMBEDMILL_REDIS_URL": redis_url, "EMBEDMILL_MODEL": MODEL, **names}
    with log.open("wb") as output:
        started = subprocess.Popen([sys.executable, "-m", "worker", "run"], env=env, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while b"worker_ready" not in log.read_bytes():
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield started
    finally:
        started.kill()
        started.wait()
