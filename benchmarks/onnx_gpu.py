"""ONNX Runtime on a GPU, beside our PyTorch encoder if torch is there: tokens in, vectors out, no queue.

    python -m benchmarks.onnx_gpu [--mean-tokens 20 177 500] [--batch-tokens 16384] [--rounds 5]

Random weights of MiniLM's, BERT-base's and BERT-large's size, log-normal lengths (sigma 0.6), two batches in
flight, host to host. The two take turns; say the GPU, the driver and the versions beside the numbers.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.onnx_cpu import batches, embed
from benchmarks.random_bert import BERT_BASE, BERT_LARGE, MINILM, save_random_bert
from producer.errors import BackendError
from worker.backends import load_backend
from worker.model import read_model

SIZES = {"MiniLM": MINILM, "base": BERT_BASE, "large": BERT_LARGE}
TEXTS = {20: 20_000, 177: 3_000, 500: 1_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mean-tokens", type=int, nargs="+", default=[20, 177, 500])
    parser.add_argument("--batch-tokens", type=int, default=16_384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp16")
    arguments = parser.parse_args()
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            save_random_bert(Path(folder), **size)
            measure(name, Path(folder), arguments)


def measure(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Print M tokens/s of every backend that loads, for every mean length."""
    model, loaded = read_model(folder), {}
    for backend in ("onnx", "torch"):
        try:
            loaded[backend] = load_backend(
                backend,
                model,
                device="cuda",
                precision=arguments.precision,
                max_batch_tokens=arguments.batch_tokens,
            )
        except BackendError as error:
            print(f"{name}: {backend} does not load: {error}", flush=True)
    for mean_tokens in arguments.mean_tokens if loaded else []:
        work = batches(model, next(iter(loaded.values())), mean_tokens, TEXTS.get(mean_tokens, 2_000))
        num_tokens = sum(len(tokens.ids) for tokens in work)
        seconds: dict[str, list[float]] = {backend: [] for backend in loaded}
        for backend in loaded.values():
            embed(backend, work)  # warm
        for _ in range(arguments.rounds):
            for backend, instance in loaded.items():
                seconds[backend].append(embed(instance, work)[0])
        rates = {
            backend: round(num_tokens / statistics.median(found) / 1e6, 3)
            for backend, found in seconds.items()
        }
        print(f"{name} {arguments.precision}, mean {mean_tokens}: M tokens/s {rates}", flush=True)
    for instance in loaded.values():
        instance.close()


if __name__ == "__main__":
    main()
