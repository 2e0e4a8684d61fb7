"""Models with random weights for tests of graphs, and their vectors by ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.backends.onnx_session import open_session
from worker.contract import Tokens
from worker.graphs.flat.graph import build_graph
from worker.graphs.flat.inputs import graph_inputs
from worker.models.architecture import Architecture
from worker.models.dense import Dense
from worker.models.head import PLAIN_HEAD, Head, HeadModule, Normalize
from worker.models.model import Model
from worker.models.rope import Rope
from worker.models.weights import Weights, tensor_shapes

Array = npt.NDArray[Any]
LENGTHS = (3, 17, 1, 17, 30)


def architecture(**changes: Any) -> Architecture:
    """A small BERT, changed as asked."""
    fields: dict[str, Any] = {
        "kind": "bert",
        "vocab_size": 50,
        "hidden": 32,
        "layers": 2,
        "heads": 4,
        "kv_heads": 4,
        "head_dim": 8,
        "intermediate": 48,
        "activation": "gelu",
        "norm_eps": 1e-12,
        "position_offset": 0,
        "max_positions": 40,
        "token_types": 2,
    }
    return Architecture(**(fields | changes))


def model_of(network: Architecture, head: Head = PLAIN_HEAD) -> Model:
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


def head(
    *poolings: Any, denses: tuple[Dense, ...] = (), normalize: bool = False, include_prompt: bool = True
) -> Head:
    modules: tuple[HeadModule, ...] = (*denses, *[Normalize()] * normalize)
    return Head(poolings=poolings, include_prompt=include_prompt, modules=modules)


def random_weights(network: Architecture) -> Weights:
    random = np.random.default_rng(5)
    return {
        name: (random.standard_normal(shape) * 0.3).astype(np.float32)
        for name, shape in tensor_shapes(network).items()
    }


def random_tokens() -> Tokens:
    random = np.random.default_rng(6)
    offsets = np.concatenate(([0], np.cumsum(LENGTHS))).astype(np.int32)
    return Tokens(random.integers(2, 50, offsets[-1]).astype(np.int32), offsets)


def by_onnx(model: Model, weights: Weights, tokens: Tokens, precision: str = "fp32") -> Array:
    session = open_session(build_graph(model, weights, precision=precision), "CPUExecutionProvider")
    texts = np.arange(len(tokens))
    inputs = graph_inputs(
        tokens, texts, model.architecture.position_offset, pools_prompts=model.head.include_prompt
    )
    vectors: Array = session.run(["vectors"], inputs)[0]
    return vectors


def rotary(**changes: Any) -> Architecture:
    """A small decoder with grouped heads and rotary positions, changed as asked."""
    layers = 2
    fields = {
        "kind": "decoder",
        "kv_heads": 2,
        "gated": True,
        "activation": "silu",
        "biased": (),
        "norm": "rms",
        "norm_bias": False,
        "post_norm": False,
        "embedding_norm": False,
        "positions": "rotary",
        "token_types": 0,
        "ropes": (Rope(theta=1e4),) * layers,
        "windows": (0,) * layers,
    }
    return architecture(**(fields | changes))
