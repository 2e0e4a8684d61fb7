"""The packed graph, run on the CPU with its only CUDA-only operator spelled out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from support.onnx_models import architecture, by_onnx, head, model_of, random_tokens, random_weights, rotary
from support.packed_attention import for_cpu

from producer.errors import BackendError
from worker.backends.onnx_cuda import OnnxCudaBackend
from worker.backends.onnx_session import CPU, CUDA, misplaced, open_session
from worker.contract import Tokens
from worker.graphs.packed.graph import build_packed_graph
from worker.graphs.packed.inputs import packed_inputs, packed_micro_batches
from worker.models.architecture import Architecture

NETWORKS: dict[str, Architecture] = {
    "bert": architecture(),
    "roberta": architecture(position_offset=2, token_types=1),
    "silu": architecture(activation="silu"),
    "mpnet": architecture(relative_buckets=32, position_offset=2, token_types=0),
    "llama_bidirec": rotary(),
    "head norms": rotary(head_norm=True),
    "branch norms": rotary(branch_norm=True, head_norm=True, score_divisor=9.0, activation="gelu_tanh"),
    "branch norms, biases": rotary(branch_norm=True, biased=("qkv", "out", "up", "down")),
    "qwen2": rotary(biased=("qkv",)),
    "nomic": rotary(norm="layer", norm_bias=True, post_norm=True, embedding_norm=True, token_types=2),
    "gte": rotary(
        norm="layer", norm_bias=True, post_norm=True, embedding_norm=True, biased=("qkv", "out", "down")
    ),
}


def backend_of(network: Architecture, *, precision: str, scale: float = 1.0, **options: Any) -> Any:
    weights = {name: array * np.float32(scale) for name, array in random_weights(network).items()}
    model = model_of(network, head("mean", normalize=True))
    graph = for_cpu(build_packed_graph(model, weights, precision=precision))
    session = open_session(graph, CPU)
    return OnnxCudaBackend(session, graph, model, device="cpu", max_batch_tokens=400, **options)


def worst_cosine(left: Any, right: Any) -> float:
    return float((left * right).sum(axis=1).min())


@pytest.mark.parametrize("network", list(NETWORKS.values()), ids=list(NETWORKS))
def test_it_gives_the_vectors_of_the_graph_for_cpus(network: Architecture) -> None:
    """In fp32, texts of all lengths in one batch."""
    tokens = random_tokens()
    expected = by_onnx(model_of(network, head("mean", normalize=True)), random_weights(network), tokens)
    backend = backend_of(network, precision="fp32")
    found = backend.collect(backend.launch(tokens))
    backend.close()
    np.testing.assert_allclose(found, expected, atol=3e-6)


@pytest.mark.parametrize("network", list(NETWORKS.values()), ids=list(NETWORKS))
def test_fp16_stays_near_fp32(network: Architecture) -> None:
    """With all tensors and intermediate results in fp16, the worst cosine is above 0.9999."""
    tokens = random_tokens()
    exact, half = (backend_of(network, precision=name, scale=0.3) for name in ("fp32", "fp16"))
    assert worst_cosine(*(each.collect(each.launch(tokens)) for each in (exact, half))) > 0.9999
    exact.close()
    half.close()


def test_no_tensor_of_the_fp16_graph_is_wider() -> None:
    """Weights, norms and tables take two bytes per element."""
    network = rotary()
    graph = build_packed_graph(model_of(network), random_weights(network), precision="fp16")
    assert {array.dtype for array in graph.tensors.values()} == {np.dtype(np.float16)}


def test_every_bias_sum_and_norm_is_fused() -> None:
    """A layer of a BERT is six matmuls, one attention, two norms of sums and one activation."""
    import onnx

    network = architecture(layers=3)
    graph = build_packed_graph(model_of(network), random_weights(network), precision="fp16")
    kinds = [node.op_type for node in onnx.load_from_string(graph.proto).graph.node]
    layer = ("Gemm", "PackedMultiHeadAttention", "SkipLayerNormalization", "BiasGelu", "Split")
    assert [kinds.count(kind) for kind in layer] == [18, 3, 6, 3, 0]
    # The embeddings' norm and sum, and the matmul of the mean; nothing else of these kinds is left.
    assert [kinds.count(kind) for kind in ("LayerNormalization", "Add", "MatMul")] == [1, 1, 1]


def test_the_checker_of_onnx_accepts_it() -> None:
    """Names, types and versions are the standard's, and every shape can be inferred."""
    import onnx

    network = architecture()
    graph = build_packed_graph(model_of(network), random_weights(network), precision="fp16")
    proto = onnx.load_from_string(graph.proto)
    for tensor in list(proto.graph.initializer):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            filled = onnx.numpy_helper.from_array(graph.tensors[tensor.name], tensor.name)
            tensor.CopyFrom(filled)
    onnx.checker.check_model(proto, full_check=True)


@pytest.mark.parametrize(
    "changes", [{"causal": True}, {"windows": (0, 8)}, {"score_cap": 9.0}], ids=["causal", "windows", "cap"]
)
def test_attention_without_a_kernel_is_refused(changes: Mapping[str, Any]) -> None:
    """So that the next profile is tried."""
    network = rotary(**changes)
    with pytest.raises(BackendError, match="no packed attention that is causal, has windows or caps"):
        build_packed_graph(model_of(network), random_weights(network), precision="fp16")


def test_weights_beyond_fp16_are_refused() -> None:
    """They would become infinite."""
    weights = {**random_weights(architecture()), "layers.1.up.bias": np.full(48, 7e4, np.float32)}
    with pytest.raises(BackendError, match=r"layers\.1\.up\.bias overflows fp16"):
        build_packed_graph(model_of(architecture()), weights, precision="fp16")


def test_work_that_is_left_to_another_provider_is_found() -> None:
    """Here all of it is on the CPU and none on a GPU."""
    network = architecture()
    graph = for_cpu(build_packed_graph(model_of(network), random_weights(network), precision="fp32"))
    session = open_session(graph, CPU)
    assert misplaced(session, CPU) == []
    assert misplaced(session, CUDA) == ["Gemm", "SkipLayerNormalization"]


def test_inputs_are_those_of_the_operator() -> None:
    """As documented: slots of the tokens, then the empty ones; cumulative ends of the texts."""
    tokens = Tokens(np.arange(7, dtype=np.int32), np.array([0, 1, 3, 7], np.int32))
    inputs = packed_inputs(tokens, np.arange(3), 0)
    assert inputs["token_offset"].tolist() == [[0, 4, 5, 8], [9, 10, 11, 1], [2, 3, 6, 7]]
    assert inputs["cumulative"].tolist() == [0, 1, 3, 7]
    assert inputs["slots"].tolist() == [[0, 0, 0, 0], [1, 2, 2, 2], [3, 4, 5, 6]]


def test_a_long_text_among_short_ones_does_not_blow_up_the_slots() -> None:
    """The longest text times the count stays within the limit, and each text is in one micro-batch."""
    lengths = np.array([500, *[3] * 200, 40, 40], np.int32)
    cut = packed_micro_batches(lengths, 1024)
    assert sorted(np.concatenate(cut).tolist()) == list(range(203))
    assert all(int(lengths[texts].max()) * len(texts) <= 1024 for texts in cut)
    assert len(cut) <= 4


def test_batches_are_collected_in_order_and_a_closed_backend_refuses() -> None:
    """Two in flight; closing twice is fine."""
    backend, tokens = backend_of(architecture(), precision="fp32"), random_tokens()
    short = Tokens(tokens.ids[:3], np.array([0, 3], np.int32))
    handles = backend.launch(tokens), backend.launch(short)
    first, second = (backend.collect(handle) for handle in handles)
    np.testing.assert_allclose(second[0], first[0], atol=1e-6)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.launch(short)
