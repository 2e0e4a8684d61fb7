"""Compares ONNX Runtime on a GPU with our PyTorch encoder and a plain exported graph: tokens to vectors.

    python -m benchmarks.kernels.onnx_gpu [--mean-tokens 20 177 500] [--batch-tokens 65536] [--rounds 5]

Random weights of MiniLM's, BERT-base's and BERT-large's size, log-normal lengths (sigma 0.6), two batches in
flight, host to host. The plain graph computes 64 or 256 texts of similar length at a time. Rounds are
interleaved. Needs onnxruntime-gpu and the extra `peers`. Report GPU, driver and versions with the numbers.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.kernels.onnx_cpu import batches, embed
from benchmarks.kernels.plain_onnx import PlainOnnx
from benchmarks.support.random_bert import BERT_BASE, BERT_LARGE, MINILM, save_random_bert
from producer.errors import BackendError
from worker.backends import LoadOptions, load_backend
from worker.contract import Tokens
from worker.models.model import read_model

SIZES = {"MiniLM": MINILM, "base": BERT_BASE, "large": BERT_LARGE}
TEXTS = {20: 20_000, 177: 3_000, 500: 1_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mean-tokens", type=int, nargs="+", default=[20, 177, 500])
    parser.add_argument("--batch-tokens", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp16")
    arguments = parser.parse_args()
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            save_random_bert(Path(folder), **size)
            measure(name, Path(folder), arguments)


def measure(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Print the M tokens/s of each backend that loads, for each mean length."""
    model, loaded = read_model(folder), {}
    for backend in ("onnx", "torch"):
        try:
            loaded[backend] = load_backend(
                backend,
                model,
                LoadOptions(
                    device="cuda", precision=arguments.precision, max_batch_tokens=arguments.batch_tokens
                ),
            )
        except BackendError as error:
            print(f"{name}: {backend} does not load: {error}", flush=True)
    plain = PlainOnnx(folder)
    for mean_tokens in arguments.mean_tokens if loaded else []:
        work = batches(model, next(iter(loaded.values())), mean_tokens, TEXTS.get(mean_tokens, 2_000))
        all_tokens = joined(work)
        runs: dict[str, Callable[[], object]] = {
            **{name: partial(embed, backend, work) for name, backend in loaded.items()},
            **{f"plain {count}": partial(plain.embed, all_tokens, batch_texts=count) for count in (64, 256)},
        }
        rates = interleaved(runs, num_tokens=len(all_tokens.ids), rounds=arguments.rounds)
        print(f"{name} {arguments.precision}, mean {mean_tokens}: M tokens/s {rates}", flush=True)
    for instance in loaded.values():
        instance.close()


def joined(work: list[Tokens]) -> Tokens:
    """All batches as one."""
    lengths = np.concatenate([tokens.lengths for tokens in work])
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return Tokens(np.concatenate([tokens.ids for tokens in work]), offsets)


def interleaved(runs: dict[str, Callable[[], object]], *, num_tokens: int, rounds: int) -> dict[str, float]:
    """M tokens/s of each run in its median round, after a warm-up round; rounds are interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + rounds):
        for name, run in runs.items():
            started_s = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started_s)
    return {
        name: round(num_tokens / statistics.median(found[1:]) / 1e6, 3) for name, found in seconds.items()
    }


if __name__ == "__main__":
    main()
