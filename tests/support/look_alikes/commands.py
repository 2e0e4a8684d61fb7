"""The commands that users run, as processes."""

import os
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT


def command(*arguments: str | Path) -> str:
    """What a command of ours prints; it must succeed."""
    line = [sys.executable, "-m", *map(str, arguments)]
    quiet = {**os.environ, "EMBEDMILL_NUM_THREADS": "1", "EMBEDMILL_OFFLINE": "1"}
    done = subprocess.run(line, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def converted(directory: Path) -> Path:
    """What `worker convert` makes of a directory with pickled weights."""
    made = directory.with_name("converted")
    command("worker", "convert", directory, made)
    return made
