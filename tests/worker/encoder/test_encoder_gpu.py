"""The whole encoder on a GPU: parity with fp32 on the CPU, batch-mates, no compilation after it is ready."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.model_directory import write
from support.random_networks import FAMILIES, flat, random_network, random_rows, worst_cosine
from support.static_models import random_table, save_static

from worker.backends import LoadOptions, load_backend
from worker.backends.token_batches import embed_one_by_one
from worker.contract import Tokens
from worker.models.model import read_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
BOUNDS = {"fp32": 0.999999, "fp16": 0.9999, "bf16": 0.9999, "fp8": 0.99}
#: Normalised branches add as much as the stream has, and so does their rounding: 0.99985 and 0.989 on a CPU.
BRANCH_NORM_BOUNDS = BOUNDS | {"bf16": 0.9995, "fp8": 0.98}


def embedded(backend: Any, rows: list[list[int]]) -> Any:
    return backend.collect(backend.launch(flat(rows)))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_and_precision(tmp_path: Path, family: str) -> None:
    """Vectors agree with fp32 on the CPU within each precision's bound, alone and with batch-mates."""
    name, options = FAMILIES[family]
    random_network(name, options | {"initializer_range": 0.02}, tmp_path)
    model, rows = read_model(tmp_path), random_rows(200)
    reference = embedded(load_backend("torch", model, LoadOptions(device="cpu", precision="fp32")), rows)
    bounds = BRANCH_NORM_BOUNDS if model.architecture.branch_norm else BOUNDS
    for precision, bound in bounds.items():
        backend = load_backend(
            "torch", model, LoadOptions(device="cuda", precision=precision, max_batch_tokens=4096)
        )
        together = embedded(backend, rows)
        assert worst_cosine(together, reference) > bound, precision
        alone = np.concatenate([embedded(backend, [row]) for row in rows])
        assert worst_cosine(together, alone) > bound, precision
        backend.close()


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_a_network_without_layers(tmp_path: Path, size: int) -> None:
    """A static table's means, also of the sizes of potion, in every precision."""
    model = read_model(save_static(tmp_path, {"embeddings": random_table(size=size)}))
    rows = random_rows(200)
    reference = embedded(load_backend("torch", model, LoadOptions(device="cpu", precision="fp32")), rows)
    for precision, bound in BOUNDS.items():
        backend = load_backend(
            "torch", model, LoadOptions(device="cuda", precision=precision, max_batch_tokens=32_768)
        )
        assert worst_cosine(embedded(backend, rows), reference) > bound, precision
        backend.close()


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens"])
def test_prompts_are_left_out_of_pooling(tmp_path: Path, pooling: str) -> None:
    """Of models that ask for it: the captured graphs pool what the CPU pools, in batches of all sizes."""
    random_network(*FAMILIES["bert"], tmp_path)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    rows = [{"type": f"sentence_transformers.models.{kind}", "path": path} for path, kind in kinds.items()]
    write(tmp_path, "modules.json", rows)
    write(tmp_path, "1_Pooling/config.json", {"pooling_mode": pooling, "include_prompt": False})
    model, tokens = read_model(tmp_path), flat(random_rows(200))
    shares = np.resize([0.0, 0.5, 1.0], len(tokens))
    tokens = replace(tokens, num_unpooled=((tokens.lengths - 1) * shares).astype(np.int32))
    found = []
    for device in ("cpu", "cuda"):
        backend = load_backend("torch", model, LoadOptions(device=device, max_batch_tokens=4096))
        found += [backend.collect(backend.launch(tokens)), embed_one_by_one(backend, tokens)]
        backend.close()
    for vectors in found[1:]:
        assert worst_cosine(vectors, found[0]) > BOUNDS["fp32"]


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp8"])
@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3"])
def test_autotuning_changes_only_the_time(tmp_path: Path, family: str, precision: str) -> None:
    """Full batches by autotuned algorithms agree with torch's; the next load reads them from the cache."""
    name, options = FAMILIES[family]
    random_network(name, options | {"initializer_range": 0.02}, tmp_path)
    model, rows = read_model(tmp_path), 5 * random_rows(200)
    rows = rows[: int(np.searchsorted(np.cumsum([len(row) for row in rows]), 4096, side="right"))]
    vectors = []
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        backend = load_backend(
            "torch",
            model,
            LoadOptions(device="cuda", precision=precision, max_batch_tokens=4096, cache=cache),
        )
        vectors.append(embedded(backend, rows))
        backend.close()
    assert len(list((tmp_path / "cache" / "matmul").glob("*.json"))) == 1
    assert worst_cosine(vectors[1], vectors[0]) > BOUNDS[precision]
    assert np.array_equal(vectors[1], vectors[2])


def test_nothing_is_compiled_or_allocated_after_ready(tmp_path: Path) -> None:
    """10,000 random batches, two in flight, compile no kernel and reserve no memory."""
    import torch
    import triton

    random_network(*FAMILIES["bert"], tmp_path)
    backend = load_backend(
        "torch", read_model(tmp_path), LoadOptions(device="cuda", precision="fp16", max_batch_tokens=4096)
    )
    random = np.random.default_rng(3)
    compiled: list[str] = []

    def note(**call: Any) -> bool:
        compiled.append(str(call["key"]))
        return False

    triton.knobs.runtime.jit_cache_hook = note
    before, pending = torch.cuda.memory_reserved(), []
    for _ in range(10_000):
        lengths = random.integers(1, 200, random.integers(1, 20))
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        ids = random.integers(0, 300, offsets[-1]).astype(np.int32)
        pending.append(backend.launch(Tokens(ids, offsets)))
        if len(pending) == 2:
            assert np.isfinite(backend.collect(pending.pop(0))).all()
    backend.collect(pending.pop())
    triton.knobs.runtime.jit_cache_hook = None
    assert torch.cuda.memory_reserved() == before
    assert compiled == []
    backend.close()


def test_a_gpu_that_others_use_gets_smaller_batches(tmp_path: Path) -> None:
    """A batch that does not fit is halved until it does, at load and never later."""
    import torch

    random_network(*FAMILIES["bert"], tmp_path)
    model, rows = read_model(tmp_path), random_rows(200)
    reference = embedded(load_backend("torch", model, LoadOptions(device="cpu", precision="fp32")), rows)
    free, _ = torch.cuda.mem_get_info()
    other = torch.empty(free - 600 * 2**20, dtype=torch.uint8, device="cuda")
    backend = load_backend(
        "torch", model, LoadOptions(device="cuda", precision="fp32", max_batch_tokens=4 * 1024 * 1024)
    )
    assert 256 <= backend.max_batch_tokens < 4 * 1024 * 1024
    assert worst_cosine(embedded(backend, rows), reference) > BOUNDS["fp32"]
    backend.close()
    del other
    torch.cuda.empty_cache()
