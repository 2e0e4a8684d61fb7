"""Measures what number formats give at each depth, and what spoiled networks do, against the shipped bounds.

    python -m benchmarks.quality.bounds [SHAPE ...] [--device cuda] [--formats bf16,fp16,fp8]
    python -m benchmarks.quality.bounds MODEL_DIR ... [--pooling lasttoken]

Shapes are those of SHAPES, with random weights as transformers initialises them, all by default. On the CPU a
network is 256 wide, with weights as much larger as its products are shorter; on a GPU it has its real width.
Losses are `1 - cosine` to fp32 on the same device, worst and mean. `own` is a text in a full batch against
itself alone; on the CPU, where batches change nothing, the same network with its neurons in another order.
Exits with 1 if in 16 bit a sound network misses the bounds or a spoiled one meets them; fp8 is only shown.
"""

import argparse
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kernels.encoder_cases import model_of
from producer.contract import Truncate
from producer.errors import BackendError
from selection.bounds import rounding_bounds
from worker.backends import LoadOptions
from worker.backends.token_batches import embed_one_by_one
from worker.backends.torch_backend import build_torch_backend
from worker.contract import FloatArray, Tokens
from worker.models.architecture import Architecture, read_architecture
from worker.models.head import Normalize
from worker.models.model import Model, read_model
from worker.models.weights import Weights, read_weights, tensor_shapes
from worker.reference_texts import golden_texts
from worker.startup.verification import Verified, compare
from worker.tokenization.tokenizer import Tokenizer

SHAPES: dict[str, tuple[str, int, int, int, int, int]] = {
    # family, layers, hidden, heads, key heads, intermediate
    "minilm": ("bert", 6, 384, 12, 12, 1536),
    "bert-base": ("bert", 12, 768, 12, 12, 3072),
    "bert-large": ("bert", 24, 1024, 16, 16, 4096),
    "modernbert-base": ("modernbert", 22, 768, 12, 12, 1152),
    "llama-1b": ("llama", 16, 2048, 32, 8, 8192),
    "qwen3-0.6b": ("qwen3", 28, 1024, 16, 8, 3072),
    "qwen3-4b": ("qwen3", 36, 2560, 32, 8, 9728),
}
_NARROW = 256
_INITIAL = 0.02  # transformers' initializer_range
_MAX_TOKENS = 128
_BATCH_TOKENS = {"cpu": 1024, "cuda": 4096}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with its weights, and texts."""

    name: str
    model: Model
    weights: Weights
    tokens: Tokens

    def vectors(self, device: str) -> FloatArray:
        """The texts' vectors in fp32."""
        backend = build_torch_backend(self.model, self.weights, _options(device, "fp32"))
        found = embed_one_by_one(backend, self.tokens)
        backend.close()
        return found

    def compared(self, device: str, precision: str, golden: FloatArray) -> Verified:
        """The texts' cosines in that format, as a worker's boot finds them."""
        backend = build_torch_backend(self.model, self.weights, _options(device, precision))
        try:
            return compare(backend, self.tokens, golden)
        finally:
            backend.close()


class RandomWeights(Mapping[str, Any]):
    """Tensors made when they are read, the same every time, on `device`, where that is fast."""

    def __init__(self, network: Architecture, *, deviation: float, device: str) -> None:
        self._shapes, self._deviation, self._device = tensor_shapes(network), deviation, device

    def __getitem__(self, name: str) -> FloatArray:
        seeded = torch.Generator(self._device).manual_seed(zlib.crc32(name.encode()))
        values = torch.randn(self._shapes[name], generator=seeded, device=self._device)
        if name.endswith("norm.weight"):
            values = 1 + 0.2 * values
        else:
            values *= 0.1 if name.endswith(".bias") else self._deviation
        found: FloatArray = values.cpu().numpy()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


class ChangedWeights(Mapping[str, Any]):
    """Other weights with two layers swapped, or with the neurons of every layer in another order."""

    def __init__(self, weights: Weights, *, swapped: tuple[int, int] | None = None, neurons: int = 0) -> None:
        self._weights, self._neurons = weights, neurons
        self._sources = dict([swapped, swapped[::-1]]) if swapped else {}

    def __getitem__(self, name: str) -> FloatArray:
        found: FloatArray = self._weights[self._source(name)]
        if not self._neurons or not name.startswith("layers."):
            return found
        order = np.random.default_rng(7).permutation(self._neurons)
        if ".down.weight" in name:
            return np.ascontiguousarray(found[:, order])
        if ".up." in name:  # with a gate the rows are there twice
            return np.concatenate(
                [part[order] for part in found.reshape(-1, self._neurons, *found.shape[1:])]
            )
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def _source(self, name: str) -> str:
        if not name.startswith("layers."):
            return name
        layer, rest = name.removeprefix("layers.").split(".", 1)
        moved = f"layers.{self._sources.get(int(layer), int(layer))}.{rest}"
        return moved if moved in self._weights else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(SHAPES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--formats", default="bf16,fp16,fp8")
    parser.add_argument("--pooling", default="mean", help="of a model's directory")
    arguments = parser.parse_args()
    print("| network | layers | format | loss: worst, mean | own: worst, mean | bounds: worst, mean | |")
    print("|---|---|---|---|---|---|---|")
    wrong = 0
    for name in arguments.networks:
        started_s = time.perf_counter()
        narrow = _NARROW if arguments.device == "cpu" else None
        case = (
            random_case(name, arguments.device, hidden=narrow)
            if name in SHAPES
            else real_case(name, arguments.pooling)
        )
        wrong += study(case, arguments.device, arguments.formats.split(","))
        print(f"{name}: {time.perf_counter() - started_s:.0f} s", file=sys.stderr, flush=True)
    raise SystemExit(1 if wrong else 0)


def random_case(name: str, device: str, *, hidden: int | None = None, layers: int | None = None) -> Case:
    """A shape with random weights, or one of other width or depth, and texts as long as golden ones."""
    family, depth, width, heads, kv_heads, intermediate = SHAPES[name]
    hidden = hidden or width
    head_dim = {"qwen3-0.6b": 128, "qwen3-4b": 128}.get(name, width // heads)
    shrunk = width // hidden
    grouped = {
        "num_key_value_heads": kv_heads if hidden == width else max(1, hidden // 64 * kv_heads // heads),
        "head_dim": head_dim if hidden == width else 64,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
    }
    of_family: dict[str, dict[str, Any]] = {
        "bert": {"hidden_act": "gelu"},
        "modernbert": {"hidden_activation": "gelu", "norm_eps": 1e-5, "local_attention": 128},
        "llama": grouped,
        "qwen3": grouped,
    }
    network = read_architecture(
        {
            "model_type": family,
            "vocab_size": 30_522,
            "hidden_size": hidden,
            "num_hidden_layers": layers or depth,
            "num_attention_heads": max(2, heads // shrunk) if hidden == width else hidden // 64,
            "intermediate_size": intermediate * hidden // width,
            "max_position_embeddings": 512,
            **of_family[family],
        }
    )
    pooling = "lasttoken" if network.causal else "mean"
    random = np.random.default_rng(1)
    lengths = [2, 2, 3, 5, 6, 8, 12, 13, 14, 15, 17, 19, 24, 30, 33, 40, 48, 65, 96, _MAX_TOKENS]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    ids = random.integers(1000, 30_000, offsets[-1], dtype=np.int32)
    # Read many times, which costs more than memory.
    weights = dict(RandomWeights(network, deviation=_INITIAL * (width / hidden) ** 0.5, device=device))
    model = _pooled(model_of(network), pooling)
    return Case(name=name, model=model, weights=weights, tokens=Tokens(ids, offsets))


def real_case(directory: str, pooling: str) -> Case:
    """A model's own weights, and the golden texts that have a token."""
    model = _pooled(read_model(Path(directory)), pooling)
    tokenizer = Tokenizer(model.transformer, max_tokens=_MAX_TOKENS)
    texts = [text for text in golden_texts(_MAX_TOKENS) if text.strip()]
    tokens = tokenizer.encode(texts[::2], Truncate.END).tokens
    weights = dict(read_weights(model.transformer, model.architecture))
    return Case(name=Path(directory).name, model=model, weights=weights, tokens=tokens)


def study(case: Case, device: str, formats: list[str]) -> int:
    """Print a line for each format, sound and spoiled; return how many are judged wrongly."""
    golden, wrong = case.vectors(device), 0
    for precision in formats:
        found = case.compared(device, precision, golden)
        if device == "cpu":
            neurons = case.model.architecture.intermediate
            other = replace(case, weights=ChangedWeights(case.weights, neurons=neurons))
            again = other.compared(device, precision, _alone(case, device, precision))
            assert again.golden_cosine is not None
            assert again.mean_cosine is not None
            found = replace(found, batch_cosine=again.golden_cosine, batch_mean_cosine=again.mean_cosine)
        wrong += not _line(case, precision, "sound", found) and precision != "fp8"
    for spoiled, network in spoiled_cases(case):
        for precision in formats:
            met = _line(network, precision, spoiled, network.compared(device, precision, golden))
            wrong += met and precision != "fp8"
    return wrong


def spoiled_cases(case: Case) -> Iterator[tuple[str, Case]]:
    """The network with two neighbouring layers swapped, and with another pooling, each with its name."""
    layers = case.model.architecture.layers
    for place, first in (("middle", layers // 2 - 1), ("last", layers - 2)):
        weights = ChangedWeights(case.weights, swapped=(first, first + 1))
        yield f"{place} two layers swapped", replace(case, weights=weights)
    other = "mean" if case.model.head.poolings != ("mean",) else "cls"
    yield f"{other} pooling", replace(case, model=_pooled(case.model, other))


def _line(case: Case, precision: str, what: str, found: Verified) -> bool:
    """Print what was found; return whether it meets the shipped bounds."""
    layers = case.model.architecture.layers
    bounds = rounding_bounds(precision, layers=layers)
    try:
        found.check_batch(bounds)
        found.check_golden(bounds)
        met = True
    except BackendError:
        met = False
    assert found.golden_cosine is not None
    assert found.mean_cosine is not None
    pairs = [
        (found.golden_cosine, found.mean_cosine),
        (found.batch_cosine, found.batch_mean_cosine),
        (bounds.worst, bounds.mean),
    ]
    cells = " | ".join(f"{1 - worst:.1e}, {1 - mean:.1e}" for worst, mean in pairs)
    print(f"| {case.name}, {what} | {layers} | {precision} | {cells} | {'serves' if met else 'refused'} |")
    sys.stdout.flush()
    return met


def _alone(case: Case, device: str, precision: str) -> FloatArray:
    backend = build_torch_backend(case.model, case.weights, _options(device, precision))
    return embed_one_by_one(backend, case.tokens)


def _pooled(model: Model, pooling: Any) -> Model:
    head = replace(model.head, poolings=(pooling,), modules=(Normalize(),))
    return replace(model, head=head, max_text_tokens=_MAX_TOKENS)


def _options(device: str, precision: str) -> LoadOptions:
    return LoadOptions(device=device, precision=precision, max_batch_tokens=_BATCH_TOKENS[device])


if __name__ == "__main__":
    main()
