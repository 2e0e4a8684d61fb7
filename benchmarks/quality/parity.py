"""Compares our vectors with those of sentence-transformers in fp32, for a real model and real texts.

    python -m benchmarks.quality.parity MODEL_DIR [--texts 500] [--mean-tokens 60] [--long 50]
        [--ways onnx:fp32,torch:fp32,torch:bf16,torch:fp16:cuda]

Each of `--ways` is a backend, a precision and a device, by default the CPU. Lengths are log-normal; `--long`
of the texts exceed the model's limit and are truncated. sentence-transformers embeds texts one by one, we in
batches packed like the worker's. Needs the extra `peers`.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.quality.keep_16bit import embedded
from benchmarks.support.texts import texts
from producer.contract import Truncate
from worker.backends import LoadOptions, load_backend
from worker.contract import FloatArray
from worker.models.model import read_model
from worker.startup.loader import tokenizer_of
from worker.startup.make_golden import reference_vectors

WAYS = "onnx:fp32,torch:fp32,torch:bf16"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--mean-tokens", type=float, default=60)
    parser.add_argument("--long", type=int, default=50)
    parser.add_argument("--ways", default=WAYS)
    arguments = parser.parse_args()
    model = read_model(arguments.directory)
    sample = [
        *texts(arguments.texts - arguments.long, mean_tokens=arguments.mean_tokens),
        *texts(arguments.long, mean_tokens=3 * model.max_text_tokens, seed=1),
    ]
    tokenizer = tokenizer_of(model)
    tokens = tokenizer.encode(sample, Truncate.END).tokens
    lengths = tokens.lengths
    print(f"{len(tokens)} texts, {lengths.min()} to {lengths.max()} tokens, median {np.median(lengths):.0f}")
    started_s = time.perf_counter()
    expected = reference_vectors(arguments.directory, sample)
    print(f"sentence-transformers: {time.perf_counter() - started_s:.0f} s", flush=True)
    for way in arguments.ways.split(","):
        name, precision, device = [*way.split(":"), "cpu"][:3]
        started_s = time.perf_counter()
        found = embedded(load_backend(name, model, LoadOptions(device=device, precision=precision)), tokens)
        cosines = cosines_of(found, expected)
        print(
            f"{way}: worst cosine {cosines.min():.7f}, mean {cosines.mean():.7f}, largest "
            f"difference {np.abs(found - expected).max():.1e} ({time.perf_counter() - started_s:.0f} s)",
            flush=True,
        )


def cosines_of(left: FloatArray, right: FloatArray) -> np.ndarray:
    """The cosine of each pair of rows, in float64."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    cosines: np.ndarray = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return cosines


if __name__ == "__main__":
    main()
