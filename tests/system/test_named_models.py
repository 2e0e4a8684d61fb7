"""Files of models that people have, through `producer embed --embedded`, as a user runs it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.look_alikes.build import build
from support.look_alikes.catalog import LAYOUTS
from support.look_alikes.commands import command, converted
from support.look_alikes.compare import cosines, peer
from support.look_alikes.layout import Served
from support.look_alikes.tokenizers import texts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peers,
    pytest.mark.timeout(300),
    # Of the libraries we compare ourselves with.
    pytest.mark.filterwarnings("ignore"),
]


@dataclass(frozen=True, slots=True)
class Run:
    """A look-alike, what a user adds to the command, and what sentence-transformers' encode gets."""

    layout: str
    options: tuple[str, ...]
    encode: dict[str, Any]


RUNS = (
    Run("e5-mistral", ("--prompt-name", "web_search_query"), {"prompt_name": "web_search_query"}),
    Run("gte-qwen2", ("--input-type", "query"), {"prompt_name": "query"}),
    Run("embeddinggemma", ("--input-type", "passage"), {"prompt_name": "document"}),
    Run("embeddinggemma", ("--prompt-name", "STS"), {"prompt_name": "STS"}),
    Run("nomic-v1.5", ("--input-type", "query"), {"prompt_name": "query"}),
    Run("nomic-v1.5-new-keys", ("--prompt-name", "clustering"), {"prompt_name": "clustering"}),
    Run("stella-400m", ("--prompt-name", "s2p_query"), {"prompt_name": "s2p_query"}),
    Run("potion", (), {}),
    Run("bge-m3", (), {}),
    Run("prompt-default", (), {"prompt_name": "sts"}),
    Run("prompt-not-pooled", ("--input-type", "query"), {"prompt_name": "query"}),
    Run("instructor", ("--input-type", "query"), {"prompt_name": "query"}),
)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.layout} {' '.join(run.options)}".strip())
def test_a_user_gets_the_vectors_of_sentence_transformers(tmp_path: Path, run: Run) -> None:
    """Convert where that is needed, embed a JSONL file, read the vectors: each has a cosine of 0.99999."""
    layout = LAYOUTS[run.layout]
    directory = build(layout, tmp_path / "model")
    theirs = peer(layout, tmp_path)
    some = [text for text in texts() if text.strip()]
    source, output = tmp_path / "texts.jsonl", tmp_path / "vectors.npy"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    assert isinstance(layout.expected, Served)
    model = converted(directory) if layout.expected.convert else directory
    how = ("--embedded", "--quiet", "--truncate", "END", *run.options)
    command("producer", "embed", source, "-o", output, "--model", model, *how)
    found = np.load(output)
    expected = theirs.vectors(some, **run.encode)
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.99999
