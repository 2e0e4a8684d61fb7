"""TritonOps against TorchOps in fp32, on padded batches and inputs that reach the kernels' corner cases."""
# ruff: noqa: PLR0917

import importlib
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
LENGTHS = [3, 70, 1, 100, 40, 9, 130, 20, 511, 64, 64, 5]
NUM_TOKENS, PADDED, WIDTH = sum(LENGTHS), 1152, 384
BOUNDS = {"float32": 3e-5, "float16": 2e-3, "bfloat16": 1.5e-2}


def relative(found: Any, expected: Any) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


@pytest.fixture(scope="module")
def torch() -> Any:
    """Torch, imported late: collecting these tests needs no GPU library."""
    return importlib.import_module("torch")


@pytest.fixture(scope="module")
def network() -> Any:
    """The module of the network's parts."""
    return importlib.import_module("worker.encoder.network")


@pytest.fixture(params=list(BOUNDS))
def dtype(request: pytest.FixtureRequest, torch: Any) -> Any:
    """Each type a network may have."""
    return getattr(torch, request.param)


@pytest.fixture(scope="module")
def torch_ops() -> Any:
    """The reference."""
    return importlib.import_module("worker.encoder.torch_ops").TorchOps()


@pytest.fixture(scope="module")
def triton_ops() -> Any:
    """The operations under test; without autotuning, so that GELU is exact and outside the matmul."""
    return importlib.import_module("worker.encoder.triton_ops").TritonOps()


@pytest.fixture(scope="module")
def texts(torch: Any, torch_ops: Any, triton_ops: Any) -> tuple[Any, Any]:
    """The same texts as the reference gets them and as the kernels do, with padding and empty texts."""
    offsets = torch.tensor(np.concatenate(([0], np.cumsum(LENGTHS))), dtype=torch.int32, device="cuda")
    ids = torch.randint(0, 50, (NUM_TOKENS,), dtype=torch.int32, device="cuda")
    more = torch.full((128 - len(LENGTHS),), NUM_TOKENS, dtype=torch.int32, device="cuda")
    padding = torch.zeros(PADDED - NUM_TOKENS, dtype=torch.int32, device="cuda")
    plain = torch_ops.segment(ids, offsets)
    return plain, triton_ops.segment(torch.cat([ids, padding]), torch.cat([offsets, more]))


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


def values(torch: Any, *shape: int, dtype: Any) -> Any:
    return torch.randn(*shape, device="cuda").to(dtype)


def norm(torch: Any, network: Any, width: int, *, rms: bool = False, bias: bool = True) -> Any:
    weight, shift = torch.randn(width, device="cuda"), torch.randn(width, device="cuda")
    return network.Norm(weight=weight, bias=shift if bias else None, eps=1e-5, rms=rms)


def test_every_token_has_its_texts_bounds_and_padding_is_empty(texts: Any) -> None:
    """Starts and ends equal the reference's; after the last text both are the number of tokens."""
    plain, padded = texts
    assert (padded.start[:NUM_TOKENS] == plain.start).all()
    assert (padded.end[:NUM_TOKENS] == plain.end).all()
    assert (padded.start[NUM_TOKENS:] == NUM_TOKENS).all()
    assert (padded.end[NUM_TOKENS:] == NUM_TOKENS).all()


@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize(
    ("kv_heads", "causal", "window", "biased"),
    [
        (4, False, 0, False),
        (2, True, 0, False),
        (4, False, 24, False),
        (2, True, 40, False),
        (4, False, 0, True),
    ],
    ids=["plain", "causal", "window", "causal window", "relative bias"],
)
def test_attention(
    torch: Any, network: Any, torch_ops: Any, triton_ops: Any, texts: Any, dtype: Any,
    head_dim: int, kv_heads: int, causal: bool, window: int, biased: bool,
) -> None:  # fmt: skip
    """Flat tiles give the same as one text at a time; padding gives zeros."""
    plain, padded = texts
    attention = network.AttentionSpec(
        heads=4,
        kv_heads=kv_heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        bias=torch.randn(4, 2 * 511 + 1, device="cuda") if biased else None,
        max_distance=511 if biased else 0,
        causal=causal,
        window=window,
    )
    qkv = values(torch, PADDED, (4 + 2 * kv_heads) * head_dim, dtype=dtype)
    found = triton_ops.attend(qkv, padded, attention)
    expected = torch_ops.attend(qkv[:NUM_TOKENS].float(), plain, attention)
    assert relative(found[:NUM_TOKENS], expected) < BOUNDS[str(dtype).split(".")[1]]
    assert (found[NUM_TOKENS:] == 0).all()


@pytest.mark.parametrize("head_norm", [False, True])
def test_rotation(
    torch: Any, network: Any, torch_ops: Any, triton_ops: Any, texts: Any, dtype: Any, head_norm: bool
) -> None:
    """Queries and keys are rotated by their position in their own text; values are unchanged."""
    plain, padded = texts
    angles = torch.rand(511, 32, device="cuda") * 6
    norms = [norm(torch, network, 64, rms=True, bias=False) if head_norm else None for _ in range(2)]
    rotation = network.Rotation(
        cosines=angles.cos(), sines=angles.sin(), query_norm=norms[0], key_norm=norms[1]
    )
    attention = network.AttentionSpec(heads=4, kv_heads=2, head_dim=64, scale=0.125, rotation=rotation)
    qkv = values(torch, PADDED, 8 * 64, dtype=dtype)
    expected = torch_ops.rotate(qkv[:NUM_TOKENS].float(), plain, attention)
    found = triton_ops.rotate(qkv, padded, attention)[:NUM_TOKENS]
    assert relative(found, expected) < BOUNDS[str(dtype).split(".")[1]]


@pytest.mark.parametrize("keep_sum", [False, True])
@pytest.mark.parametrize("rms", [False, True])
def test_add_norm(
    torch: Any, network: Any, torch_ops: Any, triton_ops: Any, dtype: Any, keep_sum: bool, rms: bool
) -> None:
    """Matmul, sum and norm agree, and the residual holds the sum if asked."""
    linear = network.Linear(
        weight=values(torch, WIDTH, WIDTH, dtype=dtype) * 0.05, bias=values(torch, WIDTH, dtype=dtype)
    )
    exact = network.Linear(weight=linear.weight.float(), bias=linear.bias.float())
    rows, residual = (values(torch, PADDED, WIDTH, dtype=dtype) for _ in range(2))
    layer_norm = norm(torch, network, WIDTH, rms=rms, bias=not rms)
    total = residual.float().clone()
    options = {"keep_sum": keep_sum, "reader": None}
    expected = torch_ops.add_norm(network.Rows(rows.float()), exact, total, layer_norm, **options)
    found = triton_ops.add_norm(network.Rows(rows), linear, residual, layer_norm, **options)
    bound = BOUNDS[str(dtype).split(".")[1]]
    assert relative(found.values, expected.values) < bound
    if keep_sum:
        assert relative(residual, total) < bound


def test_an_overflow_stays_finite(torch: Any, network: Any, triton_ops: Any) -> None:
    """A matmul that overflows float16 saturates, so that no NaN reaches another text."""
    linear = network.Linear(weight=torch.full((WIDTH, WIDTH), 300.0, device="cuda").half(), bias=None)
    rows = network.Rows(torch.rand(PADDED, WIDTH, device="cuda").half() * 100)
    residual = torch.zeros(PADDED, WIDTH, device="cuda").half()
    layer_norm = norm(torch, network, WIDTH)
    found = triton_ops.add_norm(rows, linear, residual, layer_norm, keep_sum=False, reader=None)
    assert torch.isfinite(found.values).all()


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
def test_activation_and_fp8(
    torch: Any, network: Any, torch_ops: Any, triton_ops: Any, dtype: Any, activation: str, gated: bool
) -> None:
    """Activations agree, and quantised ones within fp8's step."""
    linear = network.Linear(
        weight=values(torch, 512, WIDTH, dtype=dtype) * 0.05, bias=values(torch, 512, dtype=dtype)
    )
    rows = network.Rows(values(torch, PADDED, WIDTH, dtype=dtype))
    expected = torch_ops.up(rows, linear, activation, gated=gated, reader=linear).values
    found = triton_ops.up(rows, linear, activation, gated=gated, reader=linear).values
    assert relative(found, expected) < BOUNDS[str(dtype).split(".")[1]]
    for reader in fp8_readers(torch, network, float(expected.abs().max())):
        in_fp8 = triton_ops.up(rows, linear, activation, gated=gated, reader=reader)
        assert relative(in_fp8.quantised.float() * in_fp8.scale[..., None], expected) < 0.04


@pytest.mark.parametrize("rms", [False, True])
def test_norm_to_fp8(
    torch: Any, network: Any, torch_ops: Any, triton_ops: Any, dtype: Any, rms: bool
) -> None:
    """Rows with a scale each and rows with a static scale agree within fp8's step."""
    x, layer_norm = (
        values(torch, PADDED, WIDTH, dtype=dtype),
        norm(torch, network, WIDTH, rms=rms, bias=not rms),
    )
    expected = torch_ops.norm(x.float(), layer_norm, reader=None).values
    for reader in fp8_readers(torch, network, float(expected.abs().max())):
        found = triton_ops.norm(x, layer_norm, reader=reader)
        assert relative(found.quantised.float() * found.scale[..., None], expected) < 0.04


def fp8_readers(torch: Any, network: Any, largest: float) -> list[Any]:
    """A layer that reads a scale per row, and one with a static scale for numbers up to `largest`."""
    from worker.encoder.quantisation import static_scale_for

    weight = torch.zeros(16, WIDTH, device="cuda").to(torch.float8_e4m3fn)
    static_scale = static_scale_for(torch.tensor(largest, device="cuda"))
    return [
        network.Linear(weight=weight, bias=None, scale=torch.ones(16, device="cuda")),
        network.Linear(
            weight=weight, bias=None, scale=torch.ones((), device="cuda"), static_scale=static_scale
        ),
    ]


@pytest.mark.parametrize("mode", ["mean", "mean_sqrt_len_tokens", "max"])
def test_pooling_and_unit_length(
    torch: Any, torch_ops: Any, triton_ops: Any, texts: Any, dtype: Any, mode: str
) -> None:
    """One row per text, summed in float32."""
    plain, padded = texts
    x = values(torch, PADDED, WIDTH, dtype=dtype)
    expected = torch_ops.pool(x[:NUM_TOKENS], plain, mode)
    found = triton_ops.pool(x, padded, mode)
    assert relative(found[: len(LENGTHS)], expected) < 1e-5
    normalised = triton_ops.normalise(found, padded)[: len(LENGTHS)]
    assert relative(normalised, torch_ops.normalise(expected, plain)) < 1e-5
