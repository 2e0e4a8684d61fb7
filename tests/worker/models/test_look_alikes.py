"""Look-alikes of real models: the vectors of sentence-transformers, or a refusal that says why."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.look_alikes.build import build
from support.look_alikes.catalog import of
from support.look_alikes.commands import converted
from support.look_alikes.compare import BACKENDS, cosines, embedded, opened, peer, prompted, rows, tokens_of
from support.look_alikes.layout import Layout, Refused, Served
from support.look_alikes.tokenizers import texts

from producer.errors import BackendError, InvalidOption, ModelError
from worker.backends import LoadOptions, load_backend

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(120),
    # Of the libraries we compare ourselves with.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(autouse=True)
def _peer_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker asks transformers in a process of its own, which takes seconds; here it is imported anyway."""
    peer_process = importlib.import_module("worker.tokenization.peer_process")
    unusable = importlib.import_module("worker.tokenization.peer").PeerUnusable

    def answer(request: Any) -> Any:
        found = peer_process.answer_request(request)
        if found.failure:
            raise unusable(found.failure)
        return found

    for module in ("worker.startup.token_ids", "worker.tokenization.conversion"):
        monkeypatch.setattr(f"{module}.ask_peer", answer)


@pytest.mark.parametrize("layout", of(Served), ids=lambda layout: layout.name)
def test_it_is_served_with_the_ids_and_vectors_of_sentence_transformers(
    tmp_path: Path, layout: Layout
) -> None:
    """Every token id is equal, and every vector has a cosine of at least 0.99999, and the same length."""
    assert isinstance(layout.expected, Served)
    directory = build(layout, tmp_path / "model")
    theirs = peer(layout, tmp_path)
    if layout.expected.convert:
        with pytest.raises(ModelError, match="worker convert"):
            opened(directory)
        directory = converted(directory)
    bundle = opened(directory, layout.expected.by)
    some = [text for text in texts() if theirs.keeps(text) and theirs.ids(text)]
    assert len(some) >= len(texts()) - 6
    tokens = tokens_of(bundle, some, theirs.truncate)
    assert rows(tokens) == [theirs.ids(text) for text in some]
    expected = theirs.vectors(some)
    assert cosines(expected[1:], expected[:-1]).min() < 0.99, "texts that are all alike show nothing"
    for backend in BACKENDS[layout.expected.by]:
        found = embedded(bundle, tokens, backend)
        assert found.shape == expected.shape
        assert cosines(found, expected).min() >= 0.99999, backend
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1), rtol=1e-3)


PROMPTED = [layout for layout in of(Served) if layout.st is not None and layout.st["prompts"]]


@pytest.mark.parametrize("layout", PROMPTED, ids=lambda layout: layout.name)
def test_each_of_its_prompts_gives_the_vectors_of_sentence_transformers(
    tmp_path: Path, layout: Layout
) -> None:
    """By its name, and by default what sentence-transformers takes; pooled or not as the model wants it."""
    assert isinstance(layout.expected, Served)
    assert layout.st is not None
    directory = build(layout, tmp_path / "model")
    theirs = peer(layout, tmp_path)
    bundle = opened(directory, layout.expected.by)
    some = [texts()[4], texts()[25]]
    default = layout.st["default_prompt_name"]
    wishes = [{"prompt_name": name} for name in layout.st["prompts"]] + [{}] * (default is not None)
    for wish in wishes:
        tokens = prompted(bundle, some, **wish)
        expected = theirs.vectors(some, **(wish or {"prompt_name": None}))
        for backend in BACKENDS[layout.expected.by]:
            assert cosines(embedded(bundle, tokens, backend), expected).min() >= 0.99999, (wish, backend)
    with pytest.raises(InvalidOption, match="no prompt"):
        prompted(bundle, some, prompt_name="nobody")
    if default is None:
        with pytest.raises(InvalidOption):
            prompted(bundle, some)


@pytest.mark.parametrize("layout", of(Refused), ids=lambda layout: layout.name)
def test_it_is_refused_with_the_reason(tmp_path: Path, layout: Layout) -> None:
    """Loading fails, and the error says why."""
    assert isinstance(layout.expected, Refused)
    directory = build(layout, tmp_path / "model")
    with pytest.raises((ModelError, BackendError), match=layout.expected.sentence):
        load_backend("onnx", opened(directory).model, LoadOptions(device="cpu", precision="fp32"))
