"""A switch in a model's files changes the vectors as it does in the peers' libraries, or loading refuses."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.look_alikes.build import build
from support.look_alikes.catalog import LAYOUTS
from support.look_alikes.compare import cosines
from support.look_alikes.switches import FAMILIES, flips
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


def theirs(directory: Path, pool: Any) -> FloatArray | None:
    """The pooled vectors of transformers, None if it cannot load or run it."""
    import torch
    import transformers

    try:
        network = transformers.AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
        with torch.no_grad():
            states = [network(torch.tensor([row]))[0][0] for row in ROWS]
    except Exception:  # whatever it raises, it does not serve this
        return None
    return np.stack([pool(each).numpy() for each in states])


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

    layout = LAYOUTS[FAMILIES[family]]
    directory = build(layout, tmp_path / "model")
    # The network alone, so that nothing hides a difference.
    for module in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (directory / module).unlink(missing_ok=True)
    config = directory / "config.json"
    published = json.loads(config.read_text())
    base = ours(directory), theirs(directory, mean)
    assert base[0] is not None
    assert base[1] is not None
    assert not differ(*base), "the network differs without any switch"
    wrong, changing = [], 0
    for key, value in flips(transformers.AutoConfig.from_pretrained(directory)):
        config.write_text(json.dumps(published | {key: value}))
        found = ours(directory)
        if found is None:
            continue
        expected = theirs(directory, mean)
        if expected is None:
            continue  # nobody has such a file
        changing += differ(expected, base[1])
        if differ(found, expected):
            wrong.append((key, value))
    assert not wrong, listed(wrong)
    assert changing, "no key that is read changes anything: the test sees nothing"


def mean(states: Any) -> Any:
    return states.mean(dim=0)


def listed(keys: Sequence[tuple[str, Any]]) -> str:
    return "".join(f"\n  {key}: {value}" for key, value in keys)
