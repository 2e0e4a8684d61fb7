"""The ONNX graph against the same network written in plain NumPy."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file
from support.onnx_models import (
    Array,
    architecture,
    by_onnx,
    head,
    model_of,
    random_tokens,
    random_weights,
    rotary,
)

from selection import probe
from worker.contract import Tokens
from worker.graphs.flat.graph import build_graph
from worker.graphs.flat.linear import ACTIVATION_MIN
from worker.graphs.positions import token_positions
from worker.models.architecture import Architecture
from worker.models.dense import Dense
from worker.models.head import Head, Normalize
from worker.models.layer_norm import LayerNorm
from worker.models.weights import Weights


def by_numpy(network: Architecture, weights: Weights, ids: Array, bias: Array | None = None) -> Array:
    """The last hidden states (tokens, hidden) of one text, in float64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + network.norm_eps)
        found: Array = centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]
        return found

    def linear(x: Array, name: str) -> Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    start = network.position_offset
    x = w["embeddings.word"][ids] + w["embeddings.position"][start : start + len(ids)]
    if network.token_types:
        x = x + w["embeddings.token_type"][0]
    x = norm(x, "embeddings.norm")
    for layer in range(network.layers):
        name = f"layers.{layer}"
        q, k, v = linear(x, f"{name}.qkv").reshape(len(ids), 3, network.heads, -1).transpose(1, 2, 0, 3)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(network.head_dim)
        scores = np.exp(scores if bias is None else scores + bias)
        mixed = (scores / scores.sum(axis=-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(x + linear(mixed, f"{name}.out"), f"{name}.attention_norm")
        inner = ACTIVATIONS[network.activation](linear(x, f"{name}.up"))
        x = norm(x + linear(inner, f"{name}.down"), f"{name}.output_norm")
    return x


def _tanh_gelu(x: Array) -> Array:
    found: Array = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return found


ACTIVATIONS: dict[str, Any] = {
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_tanh": _tanh_gelu,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}
POOLINGS: dict[str, Any] = {
    "mean": lambda x: x.mean(axis=0),
    "cls": lambda x: x[0],
    "max": lambda x: x.max(axis=0),
    "lasttoken": lambda x: x[-1],
    "mean_sqrt_len_tokens": lambda x: x.sum(axis=0) / math.sqrt(len(x)),
    "weightedmean": lambda x: np.average(x, axis=0, weights=np.arange(1, len(x) + 1)),
}


def per_text(tokens: Tokens) -> list[Array]:
    return np.split(tokens.ids, tokens.offsets[1:-1])


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_the_network_is_that_of_numpy(activation: Any) -> None:
    """Texts of different lengths in one batch get the vectors that each has alone, for every activation."""
    network, tokens = architecture(activation=activation), random_tokens()
    weights = random_weights(network)
    expected = [by_numpy(network, weights, ids).mean(axis=0) for ids in per_text(tokens)]
    np.testing.assert_allclose(by_onnx(model_of(network), weights, tokens), expected, atol=2e-5)


@pytest.mark.parametrize("poolings", [*((name,) for name in POOLINGS), ("cls", "max", "mean")])
def test_every_pooling(poolings: Any) -> None:
    """Each pooling sees a text's own tokens only; several are concatenated in order."""
    network, tokens = architecture(), random_tokens()
    weights = random_weights(network)
    states = [by_numpy(network, weights, ids) for ids in per_text(tokens)]
    expected = [np.concatenate([POOLINGS[name](x) for name in poolings]) for x in states]
    found = by_onnx(model_of(network, head(*poolings)), weights, tokens)
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("identity", lambda x: x),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("relu", ACTIVATIONS["relu"]),
        ("gelu", ACTIVATIONS["gelu"]),
        ("silu", ACTIVATIONS["silu"]),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("selu", lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
        ("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        ("softplus", lambda x: np.log1p(np.exp(x))),
        ("softsign", lambda x: x / (1 + np.abs(x))),
        ("relu6", lambda x: np.clip(x, 0, 6)),
        ("hardtanh", lambda x: np.clip(x, -1, 1)),
        ("hardswish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        ("hardsigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    ],
)
def test_dense_layers_and_unit_length(tmp_path: Path, activation: str, function: Any) -> None:
    """A dense layer follows the pooling, and normalisation comes last."""
    random = np.random.default_rng(8)
    weight = random.standard_normal((6, 32)).astype(np.float32)
    bias = random.standard_normal(6).astype(np.float32)
    save_file({"linear.weight": weight, "linear.bias": bias}, tmp_path / "model.safetensors")
    dense = Dense(in_features=32, out_features=6, bias=True, activation=activation, directory=tmp_path)
    network, tokens = architecture(), random_tokens()
    weights = random_weights(network)
    pooled = np.array([by_numpy(network, weights, ids).mean(axis=0) for ids in per_text(tokens)])
    expected = function(pooled @ weight.T + bias)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = by_onnx(model_of(network, head("mean", denses=(dense,), normalize=True)), weights, tokens)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_modules_follow_each_other_in_the_heads_order(tmp_path: Path) -> None:
    """Here a norm, unit length and a dense layer, after which vectors need not have unit length."""
    random = np.random.default_rng(8)
    scale, shift = random.standard_normal((2, 32)).astype(np.float32)
    weight = random.standard_normal((6, 32)).astype(np.float32)
    save_file({"norm.weight": scale, "norm.bias": shift}, tmp_path / "model.safetensors")
    (tmp_path / "dense").mkdir()
    save_file({"linear.weight": weight}, tmp_path / "dense/model.safetensors")
    dense = Dense(
        in_features=32, out_features=6, bias=False, activation="identity", directory=tmp_path / "dense"
    )
    modules = (LayerNorm(size=32, directory=tmp_path), Normalize(), dense)
    network, tokens = architecture(), random_tokens()
    weights = random_weights(network)
    x = np.array([by_numpy(network, weights, ids).mean(axis=0) for ids in per_text(tokens)])
    x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * scale + shift
    expected = x / np.linalg.norm(x, axis=1, keepdims=True) @ weight.T
    model = model_of(network, Head(poolings=("mean",), include_prompt=True, modules=modules))
    assert model.dim == 6
    np.testing.assert_allclose(by_onnx(model, weights, tokens), expected, atol=2e-5)


def test_positions_may_start_after_a_padding_row() -> None:
    """With an offset of 2 the first token takes row 2, and no token types are added if there are none."""
    network, tokens = architecture(position_offset=2, token_types=0), random_tokens()
    weights = random_weights(network)
    expected = [by_numpy(network, weights, ids).mean(axis=0) for ids in per_text(tokens)]
    np.testing.assert_allclose(by_onnx(model_of(network), weights, tokens), expected, atol=2e-5)


def test_a_relative_bias_is_added_to_the_scores() -> None:
    """The bucket of each distance is MPNet's: exact when near, logarithmic when far, by direction."""
    network, tokens = architecture(relative_buckets=32, position_offset=2), random_tokens()
    weights = random_weights(network)
    expected = [
        by_numpy(network, weights, ids, relative_bias(weights, len(ids))).mean(axis=0)
        for ids in per_text(tokens)
    ]
    np.testing.assert_allclose(by_onnx(model_of(network), weights, tokens), expected, atol=2e-5)


@pytest.mark.parametrize("relative_buckets", [0, 32])
@pytest.mark.parametrize("length", [256, 257, 300])
def test_a_long_text_is_that_of_numpy(relative_buckets: int, length: int) -> None:
    """From 257 tokens on, another operator computes attention, with and without a bias."""
    network = architecture(relative_buckets=relative_buckets, max_positions=310)
    weights = random_weights(network)
    ids = np.random.default_rng(6).integers(2, 50, length).astype(np.int32)
    bias = relative_bias(weights, length) if relative_buckets else None
    expected = by_numpy(network, weights, ids, bias).mean(axis=0)
    found = by_onnx(model_of(network), weights, Tokens(ids, np.array([0, length], np.int32)))
    np.testing.assert_allclose(found[0], expected, atol=2e-5)


def relative_bias(weights: Weights, length: int) -> Array:
    """MPNet's bias of a text's scores: half of 32 buckets for each direction, distances up to 128."""
    # 8 exact, then 8 + log(n / 8) / log(128 / 8) * 8.
    near = [n if n < 8 else min(15, 8 + int(math.log(n / 8) / math.log(16) * 8)) for n in range(length)]
    slot = range(length)
    buckets = [[near[abs(key - query)] + 16 * (key > query) for key in slot] for query in slot]
    bias: Array = weights["relative_bias"][np.array(buckets)].transpose(2, 0, 1)
    return bias


def test_the_proto_contains_no_weights() -> None:
    """The serialised graph does not grow with the vocabulary; tensors are not copied."""
    sizes = []
    for vocab_size in (50, 5000):
        network = architecture(vocab_size=vocab_size)
        weights = random_weights(network)
        graph = build_graph(model_of(network), weights)
        assert graph.tensors["embeddings.word"] is weights["embeddings.word"]
        sizes.append(len(graph.proto))
    assert abs(sizes[0] - sizes[1]) < 16


def test_a_spelled_out_padding_token_takes_the_padding_row() -> None:
    """As in transformers, it is not counted: later tokens take the rows it leaves free."""
    tokens = Tokens(np.array([0, 5, 1, 6, 0, 1, 1, 7], np.int32), np.array([0, 4, 8], np.int32))
    assert token_positions(tokens, 2).tolist() == [2, 3, 1, 4, 2, 1, 1, 3]
    assert token_positions(tokens, 0).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def first_token_vectors(network: Architecture, *texts: Array) -> Array:
    offsets = np.concatenate(([0], np.cumsum([len(text) for text in texts]))).astype(np.int32)
    tokens = Tokens(np.concatenate(texts).astype(np.int32), offsets)
    return by_onnx(model_of(network, head("cls")), random_weights(network), tokens)


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"causal": True}, 1),
        ({"windows": (4, 4)}, 9),  # two layers of four tokens
        ({"windows": (4, 0)}, 30),
        ({"causal": False}, 30),
    ],
    ids=["causal", "window", "window in one layer", "everything"],
)
def test_a_token_sees_as_far_as_its_layers_let_it(changes: dict[str, Any], seen: int) -> None:
    """Tokens that the first token cannot see do not change its vector; those it can see do."""
    text = np.random.default_rng(6).integers(2, 50, 30)
    beyond, within = text.copy(), text.copy()
    beyond[seen:] = 7
    within[seen - 1 :] = 7
    plain, far, near = first_token_vectors(rotary(**changes), text, beyond, within)
    np.testing.assert_allclose(far, plain, atol=1e-6)
    assert np.abs(near - plain).max() > 1e-4


def test_rotary_positions_begin_again_with_every_text() -> None:
    """A text has the same vector wherever it is in the batch."""
    text = np.random.default_rng(6).integers(2, 50, 21)
    found = first_token_vectors(rotary(head_norm=True), text, text[:5], text)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)


@pytest.mark.parametrize("activation", list(ACTIVATION_MIN))
def test_an_activation_stays_above_its_minimum(activation: Any) -> None:
    """So int8 need not search a row for it; the bound is off by at most a thousandth."""
    minimum = ACTIVATIONS[activation](np.linspace(-4, 4, 80_001)).min()
    assert ACTIVATION_MIN[activation] <= minimum <= ACTIVATION_MIN[activation] + 1e-3


@pytest.mark.parametrize(("gated", "reductions"), [(False, 3), (True, 4)])
def test_int8_reads_each_tensor_as_rarely_as_possible(gated: bool, reductions: int) -> None:
    """Queries, keys and values share a quantised input; the widest tensor is searched for its maximum."""
    network = architecture(gated=gated, layers=1)
    proto = build_graph(model_of(network), random_weights(network), precision="int8").proto
    kinds = [node.op_type for node in onnx.load_from_string(proto).graph.node]
    assert kinds.count("QuantizeLinear") == 4
    assert kinds.count("ReduceMin") == reductions


@pytest.mark.skipif("avx512_vnni" not in probe({}).cpu.features, reason="needs a CPU with VNNI")
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_int8_stays_near_fp32_in_every_kind_of_network(kind: str) -> None:
    """Biases, gates and RMSNorms included; all linear weights take one byte per element."""
    network = architecture() if kind == "encoder" else rotary(causal=True, head_norm=True, branch_norm=True)
    model, tokens = model_of(network, head("mean", normalize=True)), random_tokens()
    weights: Weights = {name: array / np.float32(3) for name, array in random_weights(network).items()}
    exact, small = (by_onnx(model, weights, tokens, precision) for precision in ("fp32", "int8"))
    assert (exact * small).sum(axis=1).min() > 0.999
    assert np.abs(exact - small).max() > 1e-6
    tensors = build_graph(model, weights, precision="int8").tensors
    leaves = ("q", "k", "v", "out", "up", "down")
    linear = [name for name in tensors if name.endswith(tuple(f".{leaf}.weight" for leaf in leaves))]
    assert len(linear) == 12
    assert {tensors[name].dtype for name in linear} == {np.dtype(np.int8)}
