"""A switch in a model's files changes the vectors as it does in the peers' libraries, or loading refuses."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.look_alikes.build import build
from support.look_alikes.catalog import LAYOUTS
from support.look_alikes.compare import cosines, embedded, opened, peer_of, prompted
from support.look_alikes.modules import MEAN
from support.look_alikes.switches import FAMILIES, FILE_FLIPS, REMOTE, changed, flips
from support.look_alikes.tokenizers import texts
from support.random_networks import flat

from producer.errors import BackendError, ModelError
from worker.backends import LoadOptions, load_backend
from worker.contract import FloatArray
from worker.models.model import read_model

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(300),
    # Of the libraries we compare ourselves with.
    pytest.mark.filterwarnings("ignore"),
]
# Longer than the look-alikes' windows.
SOME = [texts()[at] for at in (4, 6, 7, 9, 18, 21, -1)]
ROWS = [[5, 9, 31, 7], np.random.default_rng(2).integers(5, 200, 60).tolist()]


def ours(directory: Path) -> FloatArray | None:
    """The vectors of our network, None if loading refuses."""
    try:
        model = read_model(directory)
        backend = load_backend("torch", model, LoadOptions(device="cpu", precision="fp32", num_threads=1))
    except (ModelError, BackendError):
        return None
    try:
        return backend.collect(backend.launch(flat(ROWS)))
    finally:
        backend.close()


def theirs(directory: Path) -> FloatArray | None:
    """The mean-pooled vectors of transformers, None if it cannot load or run it."""
    import torch
    import transformers

    try:
        network = transformers.AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
        with torch.no_grad():
            states = [network(torch.tensor([row]))[0][0] for row in ROWS]
    except Exception:  # whatever it raises, it does not serve this
        return None
    return np.stack([each.mean(dim=0).numpy() for each in states])


def differ(left: FloatArray, right: FloatArray) -> bool:
    return left.shape != right.shape or not cosines(left, right).min() >= 0.99999


@pytest.fixture
def quiet() -> Any:
    import transformers

    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(verbosity)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("quiet")
def test_no_key_of_config_json_changes_vectors_unseen(tmp_path: Path, family: str) -> None:
    """Every key that transformers and its older versions know for the family, with other values."""
    import transformers

    # The network alone, so that nothing hides a difference.
    layout = replace(LAYOUTS[FAMILIES[family]], modules=(MEAN,), settings=None, st=None)
    directory = build(layout, tmp_path / "model")
    config = directory / "config.json"
    published = json.loads(config.read_text())
    plain, base = ours(directory), theirs(directory)
    assert plain is not None
    assert base is not None
    assert not differ(plain, base), "the network differs without any switch"
    wrong, changing = [], 0
    for key, value in flips(transformers.AutoConfig.from_pretrained(directory)):
        config.write_text(json.dumps(published | {key: value}))
        found = ours(directory)
        if found is None:
            continue
        expected = theirs(directory)
        if expected is None:
            continue  # nobody has such a file
        changing += differ(expected, base)
        if differ(found, expected):
            wrong.append((key, value))
    assert not wrong, listed(wrong)
    assert changing, "no key that is read changes anything: the test sees nothing"


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.usefixtures("quiet")
def test_no_key_that_code_of_the_model_reads_is_without_effect(tmp_path: Path, name: str) -> None:
    """That code is never run, so nothing can be compared: a key changes the vectors, or loading refuses."""
    directory = build(replace(LAYOUTS[name], modules=(MEAN,), settings=None, st=None), tmp_path / "model")
    config = directory / "config.json"
    published = json.loads(config.read_text())
    plain = ours(directory)
    assert plain is not None
    ignored = set()
    for key, values in changed(published):
        found = []
        for value in values:
            config.write_text(json.dumps(published | {key: value}))
            found.append(ours(directory))
        if all(each is not None and np.allclose(each, plain, atol=1e-6) for each in found):
            ignored.add(key)
    assert ignored - set(REMOTE[name].split()) == set()


@pytest.mark.usefixtures("quiet")
def test_no_key_of_another_file_changes_vectors_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pooling, Dense, LayerNorm, Normalize, Transformer, prompts and tokenizer, with other values."""
    # A worker that finds transformers installed compares token ids with it; most do not find it.
    monkeypatch.setattr("worker.startup.loader.ensure_token_ids", lambda *_: None)
    directory = build(LAYOUTS["switched"], tmp_path / "model")
    base = by_sentence_transformers(directory)
    assert base is not None
    plain = by_a_worker(directory)
    assert plain is not None
    assert not differ(plain, base), "the model differs without any switch"
    wrong, changing = [], 0
    for file, key, value in FILE_FLIPS:
        path = directory / file
        kept = path.read_text() if path.exists() else None
        path.write_text(json.dumps(json.loads(kept or "{}") | {key: value}))
        found = by_a_worker(directory)
        if found is not None and (expected := by_sentence_transformers(directory)) is not None:
            changing += differ(expected, base)
            if differ(found, expected):
                wrong.append((f"{file} {key}", value))
        path.unlink() if kept is None else path.write_text(kept)
    assert not wrong, listed(wrong)
    assert changing > 10, "few keys that are read change anything: the test sees little"


def by_a_worker(directory: Path) -> FloatArray | None:
    """The vectors of some texts with the model's prompt, None if loading refuses."""
    try:
        bundle = opened(directory)
        return embedded(bundle, prompted(bundle, SOME, input_type="query"), "torch")
    except (ModelError, BackendError):
        return None


def by_sentence_transformers(directory: Path) -> FloatArray | None:
    """The same by sentence-transformers, None if it cannot load or run it."""
    try:
        return peer_of(directory).vectors(SOME, prompt_name="query")
    except Exception:  # whatever it raises, it does not serve this
        return None


def listed(keys: Sequence[tuple[str, Any]]) -> str:
    return "".join(f"\n  {key}: {value}" for key, value in keys)
