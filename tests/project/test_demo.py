"""The demo: its corpus, the script that made it, and the questions it answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

EXAMPLES = ROOT / "examples"

LICENCE = "  1 This software and database is being provided to you, the LICENSEE\n"
INDEX = "airplane n 1 2 @ ~ 1 1 02691156  \nplane n 2 2 @ ~ 2 2 00000001 02691156  \n"
# From WordNet 3.0: an artifact, the same word as an act, a proper name, and a definition that uses the word.
DATA = """\
02691156 06 n 03 airplane 0 aeroplane 0 plane 0 001 @ 00000002 n 0000 | an aircraft with a fixed wing; "ok"
00000003 04 n 01 airplane 0 001 @ 00000002 n 0000 | the act of imitating an airplane
00000004 05 n 01 Dumbo 0 001 @ 00000002 n 0000 | an elephant that can fly
"""


def test_the_corpus_is_small_and_every_text_has_an_id_of_its_own() -> None:
    """4,000 lines of id and text under 600 kB, whose ids name the word that the text begins with."""
    path = EXAMPLES / "definitions.jsonl"
    entries = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    assert path.stat().st_size < 600_000
    assert len({entry["id"] for entry in entries}) == len(entries) == 4000
    assert all(entry["text"].startswith(entry["id"].partition(".")[0]) for entry in entries)


def test_the_corpus_keeps_its_licence() -> None:
    """WordNet's notice, which must appear on all copies, lies beside the corpus."""
    notice = (EXAMPLES / "definitions.LICENSE").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in notice
    assert "without fee or\nroyalty is hereby granted" in notice
    assert "MAKES NO REPRESENTATIONS OR WARRANTIES" in notice


def test_the_corpus_can_be_made_again(tmp_path: Path) -> None:
    """From WordNet's files the script takes concrete nouns, their names and definitions."""
    (tmp_path / "index.noun").write_text(LICENCE + INDEX)
    (tmp_path / "data.noun").write_text(LICENCE + DATA)
    command = [sys.executable, str(EXAMPLES / "glossary.py"), str(tmp_path)]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = "airplane, aeroplane, plane: an aircraft with a fixed wing"
    assert json.loads(made) == {"id": "airplane.n.1", "text": text}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_finds_words_by_their_meaning(tmp_path: Path) -> None:
    """Corpus and question go through server, queue and worker; bees make honey, the second time too."""
    for seen in ("texts/s", "demo/vectors.parquet"):
        command = [sys.executable, str(EXAMPLES / "dictionary.py"), "what bees make"]
        asked = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        answers = asked.stdout.partition("what bees make\n")[2]
        assert "honey: a sweet yellow liquid" in answers.splitlines()[0]
        assert seen in asked.stdout
