"""The contract of `Ops` against float64, text by text: TorchOps, and on a GPU TritonOps."""
# ruff: noqa: PLR0917

import importlib
import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from worker.models.network import AttentionSpec, Embeddings, Flat, Linear, Norm, Rotation, Rows

pytestmark = [pytest.mark.timeout(300)]
LENGTHS = [3, 70, 1, 100, 40, 9, 130, 20, 511, 64, 64, 5]
NUM_TOKENS, PADDED, WIDTH = sum(LENGTHS), 1152, 384
TEXTS = list(itertools.pairwise(itertools.accumulate(LENGTHS, initial=0)))
BOUNDS = {"float32": 3e-5, "float16": 2e-3, "bfloat16": 1.5e-2}


@dataclass(frozen=True, slots=True)
class Stage:
    """Operations on their device, and the texts as they get them: the GPU's with padding and empty texts."""

    torch: Any
    ops: Any
    device: str
    flat: Flat

    @property
    def num_rows(self) -> int:
        """Tokens of the batch, padding included."""
        return len(self.flat.ids)

    def random(self, *shape: int, dtype: Any = None) -> Any:
        """Normal numbers, float32 by default."""
        return self.torch.randn(*shape, device=self.device).to(dtype or self.torch.float32)

    def norm(self, width: int, *, rms: bool = False, bias: bool = True) -> Norm:
        """A random norm."""
        return Norm(weight=self.random(width), bias=self.random(width) if bias else None, eps=1e-5, rms=rms)

    def linear(self, out: int, inner: int, dtype: Any, *, bias: bool = True) -> Linear:
        """A random layer whose outputs are about as large as its inputs."""
        weight = self.random(out, inner, dtype=dtype) * 0.05
        return Linear(weight=weight, bias=self.random(out, dtype=dtype) if bias else None)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("torch", marks=pytest.mark.peers),
        pytest.param("triton", marks=pytest.mark.gpu),
    ],
)
def stage(request: pytest.FixtureRequest) -> Stage:
    """Both implementations, imported late: collecting these tests needs no inference library."""
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    offsets = torch.tensor([0, *itertools.accumulate(LENGTHS)], dtype=torch.int32)
    ids = torch.randint(0, 50, (NUM_TOKENS,), dtype=torch.int32)
    ids[::7] = ids[-5:] = 1  # the padding's id, written out: in a row, at both ends, as a whole text
    ids[200:206] = 1
    if request.param == "torch":
        ops, device = importlib.import_module("worker.encoder.torch_ops").TorchOps(), "cpu"
    else:
        ops, device = importlib.import_module("worker.encoder.triton_ops").TritonOps(), "cuda"
        ids = torch.cat([ids, torch.zeros(PADDED - NUM_TOKENS, dtype=torch.int32)])
        empty = torch.full((128 - len(LENGTHS),), NUM_TOKENS, dtype=torch.int32)
        offsets = torch.cat([offsets, empty])
    return Stage(torch, ops, device, ops.segment(ids.to(device), offsets.to(device)))


@pytest.fixture(params=list(BOUNDS))
def dtype(request: pytest.FixtureRequest, stage: Stage) -> Any:
    """Each dtype that a network may have."""
    return getattr(stage.torch, request.param)


def exact(tensor: Any) -> Any:
    """The same numbers in float64 on the CPU, without padding."""
    return (tensor[:NUM_TOKENS] if tensor.ndim else tensor).detach().cpu().double()


def relative(found: Any, expected: Any) -> float:
    """The distance of two tensors, by the second one's length."""
    return float((found.cpu().double()[: len(expected)] - expected).norm() / expected.norm())


def bound(dtype: Any) -> float:
    return BOUNDS[str(dtype).removeprefix("torch.")]


def normalised(x: Any, norm: Norm) -> Any:
    centred = x if norm.rms else x - x.mean(-1, keepdim=True)
    y = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * exact(norm.weight)
    return y if norm.bias is None else y + exact(norm.bias)


def through(x: Any, linear: Linear) -> Any:
    y = x @ exact(linear.weight).T
    return y if linear.bias is None else y + exact(linear.bias)


def activated(x: Any, activation: str) -> Any:
    match activation:
        case "gelu":
            return x * (1 + (x / math.sqrt(2)).erf()) / 2
        case "gelu_tanh":
            return x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh()) / 2
        case "relu":
            return x.clamp_min(0)
        case _:
            return x * x.sigmoid()


def fp8_readers(stage: Stage, largest: float) -> list[Linear]:
    """A layer that reads a scale per row, and one with a static scale for numbers up to `largest`."""
    quantisation = importlib.import_module("worker.encoder.quantisation")
    weight, bias = stage.random(512, WIDTH) * 0.05, stage.random(512, dtype=stage.torch.bfloat16)
    per_row, scales = quantisation.quantise_rows(weight)
    whole, scale = quantisation.quantise_tensor(weight)
    static_scale = quantisation.static_scale_for(stage.torch.tensor(largest, device=stage.device))
    return [
        Linear(weight=per_row, bias=bias, scale=scales),
        Linear(weight=whole, bias=bias, scale=scale, static_scale=static_scale),
    ]


def dequantised(rows: Rows) -> Any:
    return exact(rows.quantised) * exact(rows.scale)[..., None]


def test_every_token_has_the_bounds_of_its_text(stage: Stage) -> None:
    """Start and end, repeated for each token."""
    starts, ends = (np.repeat([text[side] for text in TEXTS], LENGTHS).tolist() for side in (0, 1))
    assert stage.flat.start[:NUM_TOKENS].tolist() == starts
    assert stage.flat.end[:NUM_TOKENS].tolist() == ends


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize("offset", [None, 0, 2])
def test_embeddings(stage: Stage, dtype: Any, offset: int | None, with_norm: bool) -> None:
    """Words plus positions, then the norm; with a row for padding, that token gets it and is not counted."""
    embeddings = Embeddings(
        words=stage.random(50, WIDTH, dtype=dtype),
        positions=None if offset is None else stage.random(511 + offset, WIDTH, dtype=dtype),
        position_offset=offset or 0,
        norm=stage.norm(WIDTH) if with_norm else None,
    )
    ids = stage.flat.ids[:NUM_TOKENS].cpu().long()
    expected = exact(embeddings.words)[ids]
    if offset is not None:
        counted = [(ids[low:high] != offset - 1).long() for low, high in TEXTS]
        positions = stage.torch.cat([each.cumsum(0) * each + offset - 1 for each in counted])
        expected = expected + exact(embeddings.positions)[positions]
    if embeddings.norm is not None:
        expected = normalised(expected, embeddings.norm)
    found = stage.ops.embed(stage.flat, embeddings, reader=None)
    assert relative(found.values, expected) < bound(dtype)
    for reader in fp8_readers(stage, float(expected.abs().max())):
        assert relative(dequantised(stage.ops.embed(stage.flat, embeddings, reader=reader)), expected) < 0.04


@pytest.mark.parametrize("bias", [False, True])
def test_linear(stage: Stage, dtype: Any, bias: bool) -> None:
    """x @ weight.T + bias."""
    x, linear = stage.random(stage.num_rows, WIDTH, dtype=dtype), stage.linear(512, WIDTH, dtype, bias=bias)
    found = stage.ops.linear(Rows(x), linear)
    assert found.dtype == dtype
    assert relative(found, through(exact(x), linear)) < bound(dtype)


def test_linear_in_fp8(stage: Stage) -> None:
    """The matmul of the same fp8 numbers, with a scale per row or a static scale; the output is bf16."""
    rows_for = importlib.import_module("worker.encoder.quantisation").rows_for
    x = stage.random(stage.num_rows, WIDTH).clamp(-4, 4)
    for linear in fp8_readers(stage, 4.0):
        rows = rows_for(linear, x, stage.torch.bfloat16)
        weight = exact(linear.weight) * exact(linear.scale)[..., None]
        found = stage.ops.linear(rows, linear)
        assert found.dtype == stage.torch.bfloat16
        assert relative(found, dequantised(rows) @ weight.T + exact(linear.bias)) < BOUNDS["bfloat16"]


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
def test_up(stage: Stage, dtype: Any, activation: str, gated: bool) -> None:
    """The layer, then the activation and the gate; for fp8 readers the same numbers within fp8's step."""
    linear = stage.linear(512, WIDTH, dtype)
    x = stage.random(stage.num_rows, WIDTH, dtype=dtype)
    inner = through(exact(x), linear)
    if gated:
        first, second = inner.chunk(2, dim=1)
        expected = activated(first, activation) * second
    else:
        expected = activated(inner, activation)
    found = stage.ops.up(Rows(x), linear, activation, gated=gated, reader=linear).values
    assert relative(found, expected) < bound(dtype)
    for reader in fp8_readers(stage, float(expected.abs().max())):
        found = stage.ops.up(Rows(x), linear, activation, gated=gated, reader=reader)
        assert relative(dequantised(found), expected) < 0.04


@pytest.mark.parametrize("head_norm", [False, True])
def test_rotation(stage: Stage, dtype: Any, head_norm: bool) -> None:
    """Queries and keys are rotated by their position in their own text; values are unchanged."""
    angles = stage.torch.rand(511, 32, device=stage.device) * 6
    norms = [stage.norm(64, rms=True, bias=False) if head_norm else None for _ in range(2)]
    rotation = Rotation(cosines=angles.cos(), sines=angles.sin(), query_norm=norms[0], key_norm=norms[1])
    attention = AttentionSpec(heads=4, kv_heads=2, head_dim=64, scale=0.125, rotation=rotation)
    qkv = stage.random(stage.num_rows, 8 * 64, dtype=dtype)
    positions = stage.torch.cat([stage.torch.arange(length) for length in LENGTHS])
    cosines, sines = exact(rotation.cosines)[positions], exact(rotation.sines)[positions]
    heads = []
    for index, head in enumerate(exact(qkv).split(64, dim=1)):
        norm = norms[0] if index < 4 else norms[1]
        first, second = (head if norm is None else normalised(head, norm)).chunk(2, dim=1)
        rotated = [first * cosines - second * sines, second * cosines + first * sines]
        heads.append(stage.torch.cat(rotated, dim=1) if index < 6 else head)
    found = stage.ops.rotate(qkv, stage.flat, attention)
    assert relative(found, stage.torch.cat(heads, dim=1)) < bound(dtype)


@pytest.mark.parametrize("head_dim", [32, 64, 128, 256])
@pytest.mark.parametrize(
    ("kv_heads", "causal", "window", "biased", "cap"),
    [
        (4, False, 0, False, 0.0),
        (2, True, 0, False, 0.0),
        (4, False, 24, False, 0.0),
        (2, True, 40, False, 0.0),
        (4, False, 0, True, 0.0),
        (2, True, 40, False, 1.5),
    ],
    ids=["plain", "causal", "window", "causal window", "relative bias", "capped"],
)
def test_attention(
    stage: Stage,
    dtype: Any,
    head_dim: int,
    kv_heads: int,
    causal: bool,
    window: int,
    biased: bool,
    cap: float,
) -> None:
    """Softmax over the visible keys of each token's own text; padding gives zeros."""
    torch = stage.torch
    attention = AttentionSpec(
        heads=4,
        kv_heads=kv_heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        bias=stage.random(4, 2 * 511 + 1) if biased else None,
        max_distance=511 if biased else 0,
        causal=causal,
        window=window,
        cap=cap,
    )
    qkv = stage.random(stage.num_rows, (4 + 2 * kv_heads) * head_dim, dtype=dtype)
    expected = torch.cat([attended(exact(qkv)[low:high], attention, torch) for low, high in TEXTS])
    found = stage.ops.attend(qkv, stage.flat, attention)
    assert relative(found, expected) < bound(dtype)
    assert (found[NUM_TOKENS:] == 0).all()


def attended(qkv: Any, attention: AttentionSpec, torch: Any) -> Any:
    """One text's attention."""
    shared = attention.heads // attention.kv_heads
    parts = qkv.view(len(qkv), -1, attention.head_dim).transpose(0, 1)
    q, k, v = parts.split([attention.heads, attention.kv_heads, attention.kv_heads])
    scores = q @ k.repeat_interleave(shared, dim=0).mT * attention.scale
    if attention.cap:
        scores = attention.cap * (scores / attention.cap).tanh()
    position = torch.arange(len(qkv))
    distance = position[None, :] - position[:, None]
    if attention.bias is not None:
        scores = scores + exact(attention.bias)[:, distance + attention.max_distance]
    if attention.causal:
        scores = scores.masked_fill(distance > 0, -math.inf)
    if attention.window:
        scores = scores.masked_fill(distance.abs() > attention.window, -math.inf)
    return (scores.softmax(-1) @ v.repeat_interleave(shared, dim=0)).transpose(0, 1).flatten(1)


@pytest.mark.parametrize("rms", [False, True])
def test_norm(stage: Stage, dtype: Any, rms: bool) -> None:
    """LayerNorm and RMSNorm; for fp8 readers the same numbers within fp8's step."""
    x, norm = stage.random(stage.num_rows, WIDTH, dtype=dtype), stage.norm(WIDTH, rms=rms, bias=not rms)
    expected = normalised(exact(x), norm)
    assert relative(stage.ops.norm(x, norm, reader=None).values, expected) < bound(dtype)
    for reader in fp8_readers(stage, float(expected.abs().max())):
        found = stage.ops.norm(x, norm, reader=reader)
        assert relative(found.values, expected) < bound(dtype)
        assert relative(dequantised(found), expected) < 0.04


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("keep_sum", [False, True])
@pytest.mark.parametrize("rms", [False, True])
def test_add_norm(stage: Stage, dtype: Any, rms: bool, keep_sum: bool, bias: bool) -> None:
    """Matmul, sum and norm agree, and the residual holds the sum if asked."""
    linear, norm = stage.linear(WIDTH, WIDTH, dtype, bias=bias), stage.norm(WIDTH, rms=rms, bias=not rms)
    x, residual = (stage.random(stage.num_rows, WIDTH, dtype=dtype) for _ in range(2))
    total = through(exact(x), linear) + exact(residual)
    found = stage.ops.add_norm(Rows(x), linear, residual, norm, keep_sum=keep_sum, reader=None)
    assert relative(found.values, normalised(total, norm)) < bound(dtype)
    if keep_sum:
        assert relative(residual, total) < bound(dtype)


@pytest.mark.parametrize("keep_sum", [False, True])
def test_add_norm_after_a_norm_of_the_branch(stage: Stage, dtype: Any, keep_sum: bool) -> None:
    """What is added is the normalised output of the layer."""
    linear, norm = stage.linear(WIDTH, WIDTH, dtype, bias=False), stage.norm(WIDTH, rms=True, bias=False)
    branch_norm = stage.norm(WIDTH, rms=True, bias=False)
    x, residual = (stage.random(stage.num_rows, WIDTH, dtype=dtype) for _ in range(2))
    total = normalised(through(exact(x), linear), branch_norm) + exact(residual)
    found = stage.ops.add_norm(
        Rows(x), linear, residual, norm, branch_norm=branch_norm, keep_sum=keep_sum, reader=None
    )
    assert relative(found.values, normalised(total, norm)) < bound(dtype)
    if keep_sum:
        assert relative(residual, total) < bound(dtype)


@pytest.mark.parametrize("left_out", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("mode", ["mean", "mean_sqrt_len_tokens", "max", "weightedmean"])
def test_pooling_and_unit_length(stage: Stage, dtype: Any, mode: str, left_out: float) -> None:
    """One row per text, summed in float32; all of a text, the rest of it, or its last token."""
    x = stage.random(stage.num_rows, WIDTH, dtype=dtype)
    starts = [low + int((high - low - 1) * left_out) for low, high in TEXTS]
    texts = [exact(x)[start:high] for start, (_, high) in zip(starts, TEXTS, strict=True)]
    flat = stage.flat
    if left_out:
        firsts = flat.offsets[:-1].clone()
        firsts[: len(starts)] = stage.torch.tensor(starts, dtype=stage.torch.int32)
        flat = replace(flat, firsts=firsts)
    if mode == "max":
        expected = stage.torch.stack([text.amax(0) for text in texts])
    elif mode == "weightedmean":
        bounds = [(start - low, high - low) for start, (low, high) in zip(starts, TEXTS, strict=True)]
        places = [1 + stage.torch.arange(first, end)[:, None] for first, end in bounds]
        sums = [(text * place).sum(0) / place.sum() for text, place in zip(texts, places, strict=True)]
        expected = stage.torch.stack(sums)
    else:
        power = 1.0 if mode == "mean" else 0.5
        expected = stage.torch.stack([text.sum(0) / len(text) ** power for text in texts])
    found = stage.ops.pool(x, flat, mode)
    assert relative(found, expected) < 1e-5
    unit_length = expected / expected.norm(dim=1, keepdim=True)
    assert relative(stage.ops.normalise(found, stage.flat), unit_length) < 1e-5
