"""What TritonOps does beyond the contract of `Ops`: padding, tiles, overflows."""

import importlib
from typing import Any

import numpy as np
import pytest

from worker.models.network import Linear, Norm, Rows

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
LENGTHS = [3, 70, 1, 100, 40, 9, 130, 20, 511, 64, 64, 5]
NUM_TOKENS, PADDED, WIDTH = sum(LENGTHS), 1152, 384


@pytest.fixture(scope="module")
def torch() -> Any:
    """Torch, imported late: collecting these tests needs no GPU library."""
    return importlib.import_module("torch")


@pytest.fixture(scope="module")
def triton_ops() -> Any:
    """The operations under test."""
    return importlib.import_module("worker.encoder.triton_ops").TritonOps()


def tiles_by_hand(lengths: list[int], num_tokens: int) -> list[int]:
    """Where tiles of at most 64 tokens start: a text of 96 or more begins one, others continue it."""
    cuts, at = [0], 0
    for length, is_text in [*((length, True) for length in lengths), (num_tokens - sum(lengths), False)]:
        if is_text and length >= 96 and at > cuts[-1]:
            cuts.append(at)
        while cuts[-1] + 64 < at + length:
            cuts.append(cuts[-1] + 64)
        at += length
    return [*cuts, num_tokens]


@pytest.mark.parametrize("seed", range(20))
def test_tiles_are_cut_as_by_hand(torch: Any, triton_ops: Any, seed: int) -> None:
    """Random texts, short and long, many and none, with padding: every token is in one tile."""
    random = np.random.default_rng(seed)
    lengths = random.choice([1, 3, 20, 64, 95, 96, 97, 128, 511], int(random.integers(0, 1500))).tolist()
    num_tokens = (sum(lengths) + int(random.integers(0, 999))) // 128 * 128 + 128
    offsets = np.concatenate(([0], np.cumsum(lengths), np.full(int(random.integers(1, 3000)), sum(lengths))))
    ids = torch.zeros(num_tokens, dtype=torch.int32, device="cuda")
    tiles = triton_ops.segment(ids, torch.from_numpy(offsets.astype(np.int32)).cuda()).tiles.tolist()
    expected = tiles_by_hand(lengths, num_tokens)
    assert tiles[: len(expected)] == expected
    assert set(tiles[len(expected) :]) <= {num_tokens}


def test_padding_belongs_to_no_text(torch: Any, triton_ops: Any) -> None:
    """Its start and end are both the number of tokens; entries after the last text are empty texts."""
    offsets = np.concatenate(([0], np.cumsum(LENGTHS), np.full(128 - len(LENGTHS), NUM_TOKENS)))
    ids = torch.zeros(PADDED, dtype=torch.int32, device="cuda")
    flat = triton_ops.segment(ids, torch.from_numpy(offsets.astype(np.int32)).cuda())
    assert (flat.start[NUM_TOKENS:] == NUM_TOKENS).all()
    assert (flat.end[NUM_TOKENS:] == NUM_TOKENS).all()


def test_an_overflow_stays_finite(torch: Any, triton_ops: Any) -> None:
    """A matmul that overflows float16 saturates, so that no NaN reaches another text."""
    linear = Linear(weight=torch.full((WIDTH, WIDTH), 300.0, device="cuda").half(), bias=None)
    rows = Rows(torch.rand(PADDED, WIDTH, device="cuda").half() * 100)
    residual = torch.zeros(PADDED, WIDTH, device="cuda").half()
    norm = Norm(weight=torch.randn(WIDTH, device="cuda"), bias=torch.randn(WIDTH, device="cuda"), eps=1e-5)
    found = triton_ops.add_norm(rows, linear, residual, norm, keep_sum=False, reader=None)
    assert torch.isfinite(found.values).all()
