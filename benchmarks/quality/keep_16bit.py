"""Finds the layers that an fp8 profile should keep in 16-bit, with real texts on the CPU.

    python -m benchmarks.quality.keep_16bit MODEL_DIR [--min-cosine 0.995] [--texts 150] [--mean-tokens 50]

First, each layer is kept on its own. Then layers are added one by one, in the order of how much they improved
the mean cosine, until the worst cosine with fp32 reaches the threshold: that set is the recommendation. The
CPU multiplies the same fp8 numbers as a GPU, in fp32. Needs the extra `torch`.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.support.texts import texts
from producer.contract import Truncate
from worker.backends import LoadOptions, load_backend
from worker.backends.token_batches import take
from worker.batching.packing import Budget, pack
from worker.contract import Backend, FloatArray, Tokens
from worker.models.model import Model, read_model
from worker.startup.loader import tokenizer_of

PARTS = ("qkv", "up", "down")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A set of layers kept in 16-bit, and the worst and mean cosine with fp32."""

    kept: tuple[str, ...]
    worst: float
    mean: float


Measure = Callable[[tuple[str, ...]], Trial]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--min-cosine", type=float, default=0.995)
    parser.add_argument("--texts", type=int, default=150)
    parser.add_argument("--mean-tokens", type=float, default=50)
    arguments = parser.parse_args()
    model = read_model(arguments.directory)
    tokenizer = tokenizer_of(model)
    sample = list(texts(arguments.texts, mean_tokens=arguments.mean_tokens))
    tokens = tokenizer.encode(sample, Truncate.END).tokens
    print(f"{len(tokens)} texts, {len(tokens.ids)} tokens, threshold {arguments.min_cosine}")
    last = None
    for trial in trials(model.architecture.layers, measurer(model, tokens), arguments.min_cosine):
        print(
            f"{trial.worst:.5f} {trial.mean:.5f}  {', '.join(trial.kept) or 'none kept'}",
            flush=True,
        )
        last = trial
    if last is None or last.worst < arguments.min_cosine:
        print("no set reaches the threshold; choose a 16-bit profile")
    else:
        print(f"keep_16bit: [{', '.join(sorted(last.kept))}]")


def trials(num_layers: int, measure: Measure, min_cosine: float) -> Iterator[Trial]:
    """No layers, each part, each layer alone, then growing sets until one reaches the threshold."""
    none_kept = measure(())
    yield none_kept
    if none_kept.worst >= min_cosine:
        return
    for part in PARTS:
        yield measure(tuple(f"layers.{index}.{part}" for index in range(num_layers)))
    alone = []
    for index in range(num_layers):
        for part in PARTS:
            alone.append(measure((f"layers.{index}.{part}",)))
            yield alone[-1]
    # By the mean: the worst cosine belongs to a single text and is noisy.
    alone.sort(key=lambda trial: -trial.mean)
    kept: tuple[str, ...] = ()
    for single in alone:
        kept += single.kept
        grown = measure(kept) if len(kept) > 1 else single
        yield grown
        if grown.worst >= min_cosine:
            return


def measurer(model: Model, tokens: Tokens) -> Measure:
    """A function that compares fp8 with fp32 on the tokens for a set of kept layers."""
    expected = embedded(load_backend("torch", model, LoadOptions(device="cpu", precision="fp32")), tokens)

    def measure(kept: tuple[str, ...]) -> Trial:
        backend = load_backend("torch", model, LoadOptions(device="cpu", precision="fp8", keep_16bit=kept))
        found = embedded(backend, tokens)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosines = (found * expected).sum(axis=1) / norms
        return Trial(kept=kept, worst=float(cosines.min()), mean=float(cosines.mean()))

    return measure


def embedded(backend: Backend, tokens: Tokens) -> FloatArray:
    """The texts' vectors, in their order, computed in batches packed like the worker's."""
    budget = Budget.of(backend)
    vectors = np.empty((len(tokens), backend.dim), np.float32)
    pending = np.arange(len(tokens))
    while len(pending):
        chosen = pack(tokens.lengths[pending], budget=budget)
        picked = pending[chosen]
        vectors[picked] = backend.collect(backend.launch(take(tokens, picked)))
        pending = np.delete(pending, chosen)
    backend.close()
    return vectors


if __name__ == "__main__":
    main()
