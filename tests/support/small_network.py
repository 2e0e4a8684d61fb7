"""A network of a few thousand weights, and texts for it."""

from pathlib import Path
from typing import Any

import numpy as np

from worker.backends.onnx_session import open_session
from worker.contract import FloatArray, Tokens
from worker.graphs.flat.graph import build_graph
from worker.graphs.flat.inputs import graph_inputs
from worker.models.architecture import Architecture
from worker.models.head import Head, Normalize
from worker.models.model import Model
from worker.models.weights import Weights, tensor_shapes

VOCABULARY = 50


def small_architecture(**changes: Any) -> Architecture:
    """A BERT of two layers for texts of up to 40 tokens, changed as asked."""
    fields: dict[str, Any] = {
        "kind": "bert",
        "vocab_size": VOCABULARY,
        "hidden": 64,
        "layers": 2,
        "heads": 4,
        "kv_heads": 4,
        "head_dim": 16,
        "intermediate": 128,
        "activation": "gelu",
        "norm_eps": 1e-12,
        "position_offset": 0,
        "max_positions": 40,
        "token_types": 2,
    }
    return Architecture(**(fields | changes))


def small_model(
    network: Architecture | None = None, *poolings: Any, denses: tuple[Any, ...] = (), normalize: bool = True
) -> Model:
    """A model of the network, mean pooling by default."""
    network = network or small_architecture()
    modules = (*denses, *[Normalize()] * normalize)
    head = Head(poolings=poolings or ("mean",), include_prompt=True, modules=modules)
    return Model(
        directory=Path(),
        transformer=Path(),
        revision="none",
        network=network,
        head=head,
        max_text_tokens=network.max_tokens,
        do_lower_case=False,
        prompts={},
        default_prompt=None,
        similarity="cosine",
        matryoshka_dims=(),
    )


def small_weights(network: Architecture) -> Weights:
    """Random, always the same."""
    random = np.random.default_rng(5)
    return {
        name: (random.standard_normal(shape) * 0.3).astype(np.float32)
        for name, shape in tensor_shapes(network).items()
    }


def small_tokens(*lengths: int) -> Tokens:
    """Texts of these lengths."""
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return Tokens(np.random.default_rng(6).integers(2, VOCABULARY, offsets[-1]).astype(np.int32), offsets)


def by_the_flat_graph(model: Model, weights: Weights, tokens: Tokens) -> FloatArray:
    """The vectors of the flat fp32 graph, which has tests of its own."""
    session = open_session(build_graph(model, weights), "CPUExecutionProvider")
    inputs = graph_inputs(
        tokens,
        np.arange(len(tokens)),
        model.architecture.position_offset,
        pools_prompts=model.head.include_prompt,
    )
    vectors: FloatArray = session.run(["vectors"], inputs)[0]
    return vectors
