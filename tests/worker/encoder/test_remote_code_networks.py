"""Models that bring code along, against the network of transformers that computes the same."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.random_networks import (
    FAMILIES,
    GROUPED,
    SIZES,
    flat,
    random_network,
    random_rows,
    token_vectors,
    worst_cosine,
)
from support.remote_configs import LLAMA_CODE, NEW_CODE, QWEN2_CODE, new, nomic, nomic_in_both, respelled

from producer.errors import BackendError
from worker.backends import LoadOptions, load_backend
from worker.models.model import read_model

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(300),
    # Raised by the libraries we compare with.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
Spelling = Callable[[Mapping[str, Any]], dict[str, Any]]


def gte_without_scaling(saved: Mapping[str, Any]) -> dict[str, Any]:
    """arctic-embed-m-v2.0: the keys of new under another name."""
    theta = saved["rope_parameters"]["rope_theta"]
    return new(saved) | {"rope_scaling": None, "rope_theta": theta}


def llama(saved: Mapping[str, Any]) -> dict[str, Any]:
    """llama-nemotron-embed; the reference looks both ways by is_causal."""
    kept = {name: value for name, value in saved.items() if name != "is_causal"}
    return kept | {
        "model_type": "llama_bidirec",
        "auto_map": LLAMA_CODE,
        "pooling": "avg",
        "temperature": 0.02,
    }


def qwen2(saved: Mapping[str, Any]) -> dict[str, Any]:
    """gte-Qwen2."""
    return {**saved, "auto_map": QWEN2_CODE}


NETWORKS: dict[str, tuple[str, dict[str, Any], Spelling]] = {
    "nomic": (*FAMILIES["nomic"], nomic),
    "nomic, both": (*FAMILIES["nomic"], nomic_in_both),
    "new": ("Gte", SIZES, gte_without_scaling),
    "new, no types": ("Gte", SIZES | {"type_vocab_size": 0}, gte_without_scaling),
    "llama": ("Llama", GROUPED | {"is_causal": False}, llama),
    "qwen2": (*FAMILIES["qwen2, both ways"], qwen2),
}


def embedded(directory: Path, rows: list[list[int]], by: str) -> Any:
    backend = load_backend(by, read_model(directory), LoadOptions(device="cpu", precision="fp32"))
    vectors = backend.collect(backend.launch(flat(rows)))
    backend.close()
    return vectors


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_known_network_gives_the_vectors_of_transformers(tmp_path: Path, name: str, backend: str) -> None:
    """From files spelled as their authors do."""
    kind, options, spelling = NETWORKS[name]
    network = random_network(kind, options, tmp_path)
    respelled(tmp_path, spelling)
    rows = random_rows(200)
    expected = [token_vectors(network, row).mean(axis=0) for row in rows]
    assert worst_cosine(embedded(tmp_path, rows, backend), expected) > 0.999999


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_fixed_ntk_scaling(tmp_path: Path, backend: str) -> None:
    """Against transformers' network with the frequencies of the published formula put in."""
    import torch

    network = random_network(
        "Gte", SIZES | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, tmp_path
    )
    rows = random_rows(200)
    plain = [token_vectors(network, row).mean(axis=0) for row in rows]
    size, factor = 16, 2.0
    exponents = torch.arange(0, size, 2).float() / size
    network.rotary_emb.inv_freq = 1.0 / (500.0 * factor) ** exponents / factor ** (2 / size)
    expected = [token_vectors(network, row).mean(axis=0) for row in rows]
    respelled(tmp_path, new)
    found = embedded(tmp_path, rows, backend)
    assert worst_cosine(found, expected) > 0.999999
    assert worst_cosine(found, plain) < 0.999


@pytest.mark.parametrize("spelling", [nomic, new])
def test_transformers_does_not_guess_at_other_keys(tmp_path: Path, spelling: Spelling) -> None:
    """It would take its defaults for sizes that it does not find."""
    random_network(*FAMILIES["nomic" if spelling is nomic else "gte"], tmp_path)
    respelled(tmp_path, spelling)
    with pytest.raises(BackendError, match="would misread"):
        embedded(tmp_path, [[1, 2, 3]], "transformers")


def test_nothing_of_the_models_code_is_read(tmp_path: Path) -> None:
    """A file of that name that would stop the process if it ran."""
    random_network(*FAMILIES["gte"], tmp_path)
    respelled(tmp_path, lambda saved: new(saved) | {"auto_map": {"AutoModel": "modeling.NewModel"}})
    for name in ("modeling.py", "configuration.py"):
        (tmp_path / name).write_text("raise SystemExit('run')")
    assert NEW_CODE["AutoModel"].endswith("modeling.NewModel")
    assert embedded(tmp_path, [[1, 2, 3]], "onnx").shape == (1, 64)
