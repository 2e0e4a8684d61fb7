"""The reference pages tell what the code has: generated blocks are fresh, tables by hand are complete."""

import subprocess
import sys

from support.paths import ROOT

from producer.contract import Keys
from producer.queue.rights import AclRole, rights
from worker.telemetry.prometheus import STATES

REFERENCE = ROOT / "docs" / "reference"


def test_generated_blocks_are_fresh() -> None:
    """`make docs` would change nothing."""
    command = [sys.executable, "docs/generate.py", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_redis_key_has_its_rights() -> None:
    """Somebody's: `producer acl` leaves out none of the keys and channels."""
    keys = Keys("*")
    found = {getattr(keys, name) for name in vars(Keys) if not name.startswith("_")}
    patterns = {value("*") if callable(value) else value for value in found} - {keys.queue, keys.prefix}
    given = rights([*AclRole])
    assert {*given.keys, *given.channels} == patterns


def test_every_state_of_a_worker_is_explained() -> None:
    """The label `state` takes no value that the page leaves out."""
    page = (REFERENCE / "metrics.md").read_text()
    assert [state for state in STATES if f"| `{state}` |" not in page] == []
