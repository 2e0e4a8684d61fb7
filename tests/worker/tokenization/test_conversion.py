"""A model that has only its vocabulary gets a tokenizer.json from the transformers library, in the cache."""

import json
from pathlib import Path

import pytest
from support.tokenizer_directories import FAMILIES, TEXTS

from producer.errors import ModelError
from worker.tokenization.conversion import tokenizer_json
from worker.tokenization.tokenizer import Tokenizer


def only_vocabulary(directory: Path) -> list[list[int]]:
    """Replace tokenizer.json by the files it may be made from; the ids that it gave for TEXTS."""
    path = directory / "tokenizer.json"
    tokens = Tokenizer(directory, max_tokens=64).ids(TEXTS)
    model = json.loads(path.read_text())["model"]
    if model["type"] == "WordPiece":
        names = sorted(model["vocab"], key=model["vocab"].__getitem__)
        (directory / "vocab.txt").write_text("\n".join(names) + "\n")
    else:
        (directory / "vocab.json").write_text(json.dumps(model["vocab"]))
        lines = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
        (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
    path.unlink()
    return [tokens.ids[tokens.offsets[at] : tokens.offsets[at + 1]].tolist() for at in range(len(tokens))]


@pytest.mark.peers
@pytest.mark.parametrize("family", ["bert", "mpnet", "roberta", "qwen2"])
def test_a_vocabulary_gives_the_ids_of_its_tokenizer(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made once, kept in the cache, and never written into the model's directory."""
    model, cache = FAMILIES[family](tmp_path / "model"), tmp_path / "cache"
    expected = only_vocabulary(model)
    before = sorted(path.name for path in model.iterdir())
    for _ in range(2):
        tokens = Tokenizer(model, max_tokens=64, cache=cache).ids(TEXTS)
        rows = [tokens.ids[tokens.offsets[at] : tokens.offsets[at + 1]].tolist() for at in range(len(tokens))]
        assert rows == expected
        monkeypatch.setenv("PATH", "")  # nothing is asked a second time
        monkeypatch.setattr("sys.executable", "/nonexistent")
    assert sorted(path.name for path in model.iterdir()) == before
    assert len(list((cache / "tokenizers").iterdir())) == 1


@pytest.mark.peers
def test_another_vocabulary_is_converted_again(tmp_path: Path) -> None:
    """The cache is found by the content of all files that matter."""
    model, cache = FAMILIES["bert"](tmp_path / "model"), tmp_path / "cache"
    only_vocabulary(model)
    first = tokenizer_json(model, cache=cache)
    vocabulary = (model / "vocab.txt").read_text()
    (model / "vocab.txt").write_text(vocabulary + "another\n")
    assert tokenizer_json(model, cache=cache) != first
    assert len(list((cache / "tokenizers").iterdir())) == 2


def test_no_vocabulary_or_no_library_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra that brings the library, or saving the model again."""
    with pytest.raises(ModelError, match=r"no tokenizer\.json; save the model"):
        tokenizer_json(tmp_path, cache=None)
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    monkeypatch.setattr("worker.tokenization.conversion.is_peer_installed", lambda: False)
    with pytest.raises(ModelError, match=r"has vocab\.txt but no tokenizer\.json.*embedmill\[convert\]"):
        tokenizer_json(tmp_path, cache=None)
