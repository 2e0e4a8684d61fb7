"""The reference pages tell what the code has: generated blocks are fresh, tables by hand are complete."""

import subprocess
import sys

from support.paths import ROOT

from worker.telemetry.prometheus import STATES

REFERENCE = ROOT / "docs" / "reference"


def test_generated_blocks_are_fresh() -> None:
    """`make docs` would change nothing."""
    command = [sys.executable, "docs/generate.py", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_state_of_a_worker_is_explained() -> None:
    """The label `state` takes no value that the page leaves out."""
    page = (REFERENCE / "metrics.md").read_text()
    assert [state for state in STATES if f"| `{state}` |" not in page] == []
