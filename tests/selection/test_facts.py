"""Facts as files: a machine written down is the machine read back."""

import json
import os
from pathlib import Path

import pytest
from support.paths import MACHINES

from selection import FactsError, load_facts, probe
from selection.machine.facts_file import facts_to_dict

MACHINE_FILES = sorted(MACHINES.glob("*.json"))


@pytest.mark.parametrize("path", MACHINE_FILES, ids=lambda path: path.stem)
def test_round_trip(tmp_path: Path, path: Path) -> None:
    """Every machine of the tests survives being written and read."""
    facts = load_facts(path)
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(facts_to_dict(facts)))
    assert load_facts(copy) == facts


def test_this_machine_round_trips(tmp_path: Path) -> None:
    """So does this very machine."""
    facts = probe(os.environ)
    path = tmp_path / "here.json"
    path.write_text(json.dumps(facts_to_dict(facts)))
    assert load_facts(path) == facts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "not a description of a machine"),
        ('{"cpu": {}}', "architecture"),
        (
            '{"cpu": {"architecture": "x86_64"}, "gpu": []}',
            "gpu is not a key of `$`; known are cpu, os, gpus",
        ),
        ('{"cpu": {"architecture": "x86_64"}, "gpus": [{"name": "L4"}]}', "index"),
        (
            '{"cpu": {"architecture": "x86_64"}, "gpus": [{"index": 0, "name": "L4", "capability": 9}]}',
            "a compute capability has the form 9.0, not '9'",
        ),
        ('{"cpu": {"architecture": "x86_64"}, "runtimes": [{"name": "torch"}]}', "version"),
        ('{"cpu": {"architecture": "x86_64"}, "gpus": [{"index": "0", "name": "L4"}]}', "`$.gpus[0].index`"),
        (
            '{"cpu": {"architecture": "x86_64"}, "gpus": [{"index": 0, "name": "L4", "vram": 1}]}',
            "vram is not a key of `$.gpus[0]`; known are index, name",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    """A facts file that cannot be read names the file and what is wrong."""
    path = tmp_path / "facts.json"
    path.write_text(text)
    with pytest.raises(FactsError, match=r"facts\.json") as caught:
        load_facts(path)
    assert says in str(caught.value)
    with pytest.raises(FactsError):
        load_facts(tmp_path / "absent.json")
