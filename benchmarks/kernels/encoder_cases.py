"""Networks and batches for encoder benchmarks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from worker.contract import Tokens
from worker.models.architecture import Architecture, read_architecture
from worker.models.head import PLAIN_HEAD
from worker.models.model import Model
from worker.models.weights import Weights, tensor_shapes

SIZES = {  # layers, hidden, heads, intermediate
    "minilm": (6, 384, 12, 1536),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
    "llama-1b": (16, 2048, 32, 8192),
}
MAX_TEXT_TOKENS = 512


def network(shape: str) -> Architecture:
    """A BERT of that size, or a bidirectional Llama 3.2 1B with a smaller vocabulary."""
    layers, hidden, heads, intermediate = SIZES[shape]
    sizes = {
        "vocab_size": 30_522,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "max_position_embeddings": MAX_TEXT_TOKENS,
    }
    if shape == "llama-1b":
        decoder = {"num_key_value_heads": 8, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 5e5}
        return read_architecture(sizes | decoder | {"model_type": "llama_bidirec"})
    return read_architecture(sizes | {"hidden_act": "gelu", "model_type": "bert"})


def random_weights(architecture: Architecture, *, seed: int = 0) -> Weights:
    """Weights as BERT initialises them: normal with standard deviation 0.02, norms near one."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in tensor_shapes(architecture).items():
        values = rng.standard_normal(shape, dtype=np.float32) * 0.02
        weights[name] = values + 1 if name.endswith("norm.weight") else values
    return weights


def model_of(architecture: Architecture) -> Model:
    """A model without a directory."""
    nowhere = Path("random")
    return Model(
        directory=nowhere,
        transformer=nowhere,
        revision="random",
        network=architecture,
        head=PLAIN_HEAD,
        max_text_tokens=min(MAX_TEXT_TOKENS, architecture.max_tokens),
        do_lower_case=False,
        prompts={},
        default_prompt=None,
        similarity="cosine",
        matryoshka_dims=(),
    )


def batches(mean_tokens: int, max_tokens: int, *, count: int, seed: int = 1) -> list[Tokens]:
    """`count` batches, each filled in arrival order until the next text does not fit."""
    rng = np.random.default_rng(seed)
    lengths = _lengths(rng, mean_tokens)
    carried = next(lengths)
    out = []
    for _ in range(count):
        taken: list[int] = []
        total = 0
        while total + carried <= max_tokens and len(taken) < max_tokens // 4:
            taken.append(carried)
            total += carried
            carried = next(lengths)
        ids = rng.integers(1000, 30_000, total, dtype=np.int32)
        out.append(Tokens(ids, np.concatenate(([0], np.cumsum(taken))).astype(np.int32)))
    return out


def _lengths(rng: np.random.Generator, mean_tokens: int) -> Iterator[int]:
    sigma = 0.6
    while True:
        drawn = rng.lognormal(np.log(mean_tokens) - sigma**2 / 2, sigma, 4096)
        yield from np.clip(drawn.round(), 3, MAX_TEXT_TOKENS).astype(int).tolist()


def num_flops(architecture: Architecture, lengths: npt.NDArray[np.int32]) -> float:
    """The floating-point operations of linear layers, and of attention within each text."""
    a = architecture
    attended = a.heads * a.head_dim
    mlp = a.intermediate * (3 if a.gated else 2)
    linear = 2 * a.hidden * (2 * attended + 2 * a.kv_heads * a.head_dim + mlp)
    squares = float(np.square(lengths, dtype=np.float64).sum())
    return a.layers * (linear * float(lengths.sum()) + 4 * attended * squares)
