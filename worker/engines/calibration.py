"""Calibrates fp8: finds the largest input magnitude of each linear layer, which determines its scale."""

import numpy as np

from producer.errors import BackendError
from worker.contract import Tokens
from worker.graphs.builder import Graph
from worker.graphs.inline import inlined
from worker.graphs.padded.graph import build_padded_graph
from worker.graphs.padded.inputs import padded_inputs
from worker.graphs.padded.linear import Scales
from worker.models.model import Model
from worker.models.weights import Weights


def calibrate(model: Model, weights: Weights, tokens: Tokens) -> Scales:
    """The largest input magnitude of each linear layer, over texts embedded one by one in fp32 on the CPU.

    Raises BackendError without ONNX Runtime.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "fp8 engines are calibrated with ONNX Runtime, which is not installed; install onnxruntime or "
            "onnxruntime-gpu"
        ) from error
    padded = build_padded_graph(model, weights)
    names, values = list(padded.linear_inputs), list(padded.linear_inputs.values())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        inlined(_with_outputs(padded.graph, values)), options, providers=["CPUExecutionProvider"]
    )
    largest = np.zeros(len(names))
    for index in range(len(tokens)):
        found = session.run(values, _single_text_inputs(tokens, index, model))
        largest = np.maximum(largest, [np.abs(value).max() for value in found])
    return dict(zip(names, largest.tolist(), strict=True))


def _single_text_inputs(tokens: Tokens, index: int, model: Model) -> dict[str, np.ndarray]:
    """The inputs for a single text, without padding, whose values would count."""
    text = np.array([index], dtype=np.intp)
    length = int(tokens.lengths[index])
    return padded_inputs(
        tokens,
        text,
        model.architecture.position_offset,
        num_texts=1,
        num_tokens=length,
        pools_prompts=model.head.include_prompt,
    )


def _with_outputs(graph: Graph, values: list[str]) -> Graph:
    import onnx

    model = onnx.load_from_string(graph.proto)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(value, 1, None) for value in values)
    return Graph(model.SerializeToString(), graph.tensors)
