"""Hopper attention against plain torch in fp32, and where it is used."""

import importlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.random_networks import FAMILIES, flat, random_network, random_rows, worst_cosine

from worker.backends import LoadOptions, load_backend
from worker.models.model import read_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
BOUNDS = {"float16": 1e-3, "bfloat16": 8e-3}
CASES: dict[str, Callable[[np.random.Generator], npt.NDArray[np.int64]]] = {
    "of all lengths": lambda random: random.integers(1, 513, 40),
    "short": lambda random: random.integers(1, 40, 300),
    "around a tile": lambda random: random.choice([63, 64, 65, 95, 96, 97, 127, 128, 129, 192], 60),
    "around a wgmma": lambda random: random.choice([15, 16, 17, 31, 32, 33, 47, 48, 49, 100], 60),
    "very long": lambda random: np.array([3000, 5, 8192, 700]),
    "a single token": lambda random: np.array([1]),
    "none": lambda random: np.array([], dtype=int),
}


@pytest.fixture(scope="module")
def torch() -> Any:
    """Torch, imported late: collecting these tests needs no GPU library."""
    torch = importlib.import_module("torch")
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("only for GPUs of compute capability 9.0")
    return torch


@pytest.fixture(scope="module")
def ours(torch: Any) -> Any:
    """The modules under test."""
    names = ("torch_ops", "triton_ops", "kernels.hopper")
    paths = ("worker.models.network", *(f"worker.encoder.{name}" for name in names))
    modules = list(map(importlib.import_module, paths))
    return SimpleNamespace(**{module.__name__.rpartition(".")[2]: module for module in modules})


def attention_of(ours: Any, heads: int, kv_heads: int) -> Any:
    return ours.network.AttentionSpec(heads=heads, kv_heads=kv_heads, head_dim=64, scale=0.125)


def segmented(torch: Any, ours: Any, lengths: Any, num_tokens: int) -> Any:
    """The texts as the kernel gets them, with empty texts after the last."""
    offsets = np.concatenate(([0], np.cumsum(lengths), np.full(9, np.sum(lengths)))).astype(np.int32)
    ids = torch.zeros(num_tokens, dtype=torch.int32, device="cuda")
    batch = ours.triton_ops.TritonOps().segment(ids, torch.from_numpy(offsets).cuda())
    return replace(batch, spans=ours.hopper.spans_of(batch))


def expected(torch: Any, ours: Any, qkv: Any, lengths: Any, attention: Any) -> Any:
    """The reference, one text at a time in fp32."""
    offsets = torch.tensor(np.concatenate(([0], np.cumsum(lengths))), dtype=torch.int32, device="cuda")
    torch_ops, num_tokens = ours.torch_ops.TorchOps(), int(np.sum(lengths))
    plain = torch_ops.segment(torch.zeros(num_tokens, dtype=torch.int32, device="cuda"), offsets)
    return torch_ops.attend(qkv[:num_tokens].float(), plain, attention)


@pytest.mark.parametrize("seed", range(3))
def test_a_span_describes_its_tile(torch: Any, ours: Any, seed: int) -> None:
    """Every row of every tile is in its span, with the first and last key that any row of it sees."""
    random = np.random.default_rng(seed)
    lengths = random.choice([1, 3, 20, 64, 95, 96, 97, 128, 511], int(random.integers(0, 800)))
    num_tokens = (int(lengths.sum()) + 700) // 128 * 128
    batch = segmented(torch, ours, lengths, num_tokens)
    tiles, start, end = (x.tolist() for x in (batch.tiles, batch.start, batch.end))
    for tile, (first, low, high, rows) in enumerate(batch.spans.tolist()):
        count = tiles[tile + 1] - tiles[tile]
        assert rows & 255 == count
        if count:
            seen = range(tiles[tile], tiles[tile + 1])
            assert (first, low, high) == (seen[0], min(start[t] for t in seen), max(end[t] for t in seen))
            same = low < high and all((start[t], end[t]) == (low, high) for t in seen)
            assert (rows >= 256) == same


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("heads", [(12, 12), (8, 2)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_attention_within_each_text(
    torch: Any, ours: Any, case: str, heads: tuple[int, int], dtype: str
) -> None:
    """Fresh random numbers, flat and peaked scores: as in fp32, and zero for padding."""
    random = np.random.default_rng()
    lengths, attention = CASES[case](random), attention_of(ours, *heads)
    num_tokens = int(lengths.sum()) // 128 * 128 + 128 * int(random.integers(1, 4))
    batch = segmented(torch, ours, lengths, num_tokens)
    kernel = ours.hopper.HopperAttention(attention, getattr(torch, dtype))
    for spread in (0.3, 1.0, 4.0):
        qkv = torch.randn(num_tokens, (heads[0] + 2 * heads[1]) * 64, device="cuda") * spread
        qkv = qkv.to(getattr(torch, dtype))
        found = kernel.attend(qkv, batch, attention).float()
        exact = expected(torch, ours, qkv, lengths, attention)
        assert float((found[: len(exact)] - exact).norm()) <= BOUNDS[dtype] * float(exact.norm())
        assert (found[len(exact) :] == 0).all()


@pytest.mark.parametrize("rise", [0.5, 3.0, 40.0, -40.0])
def test_scores_that_rise_or_fall_along_a_text(torch: Any, ours: Any, rise: float) -> None:
    """However far the largest score of a block is from that of earlier blocks."""
    lengths, attention = np.array([700, 40, 30, 300]), attention_of(ours, 4, 4)
    qkv = torch.randn(1152, 12 * 64, device="cuda")
    along = torch.linspace(0, rise, 1152, device="cuda")
    qkv[:, :256] = qkv[:, :256].abs()
    qkv[:, 256:512] = qkv[:, 256:512].abs() * 0.1 + along[:, None]
    qkv = qkv.half()
    batch = segmented(torch, ours, lengths, 1152)
    found = ours.hopper.HopperAttention(attention, torch.float16).attend(qkv, batch, attention).float()
    exact = expected(torch, ours, qkv, lengths, attention)
    assert float((found[: len(exact)] - exact).norm() / exact.norm()) < 1e-3


def test_a_long_text_is_bit_for_bit_the_same_among_any_others(torch: Any, ours: Any) -> None:
    """One of 96 tokens or more, whatever precedes and follows it."""
    random, attention = np.random.default_rng(), attention_of(ours, 12, 12)
    kernel = ours.hopper.HopperAttention(attention, torch.float16)
    for length in (96, 130, 200, 511):
        text = torch.randn(length, 36 * 64, device="cuda").half()
        results = []
        for before, after in ((0, 0), (int(random.integers(1, 300)), int(random.integers(1, 90)))):
            lengths = np.array([n for n in (before, length, after, after) if n])
            num_tokens = int(lengths.sum()) // 128 * 128 + 128
            qkv = torch.randn(num_tokens, 36 * 64, device="cuda").half() * 3
            qkv[before : before + length] = text
            out = kernel.attend(qkv, segmented(torch, ours, lengths, num_tokens), attention)
            results.append(out[before : before + length])
        assert torch.equal(*results)


@pytest.mark.parametrize("family", ["bert", "nomic", "llama"])
def test_networks_with_heads_of_64_dimensions(
    torch: Any, tmp_path: Path, family: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Their vectors agree with fp32 on the CPU, alone and with batch-mates; the log names the attention."""
    name, options = FAMILIES[family]
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "initializer_range": 0.02}
    sizes |= {"num_key_value_heads": 2, "head_dim": 64} if "num_key_value_heads" in options else {}
    random_network(name, options | sizes, tmp_path)
    model, rows = read_model(tmp_path), random_rows(200)

    def embedded(backend: Any, rows: list[list[int]]) -> Any:
        return backend.collect(backend.launch(flat(rows)))

    reference = embedded(load_backend("torch", model, LoadOptions(device="cpu", precision="fp32")), rows)
    for precision, bound in {"fp16": 0.9999, "bf16": 0.9999, "fp8": 0.99}.items():
        caplog.clear()
        with caplog.at_level(logging.INFO):
            backend = load_backend(
                "torch", model, LoadOptions(device="cuda", precision=precision, max_batch_tokens=4096)
            )
        plain = not model.architecture.causal
        assert any("attention_chosen by=hopper" in line for line in caplog.messages) == plain
        together = embedded(backend, rows)
        alone = np.concatenate([embedded(backend, [row]) for row in rows])
        assert worst_cosine(together, reference) > bound
        assert worst_cosine(together, alone) > bound
        backend.close()
