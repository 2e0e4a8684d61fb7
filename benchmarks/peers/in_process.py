"""Measures one peer on the same texts with its best setting; prints JSON.

    python -m benchmarks.peers.in_process {sentence-transformers,infinity,vllm} MODEL_DIR TEXTS.jsonl
    python -m benchmarks.peers.in_process tei URL TEXTS.jsonl    # a text-embeddings-inference server

fp16 on a GPU, fp32 on a CPU. Each setting has one warm-up run and two timed runs, of which the better
counts. Infinity and vLLM run in this process without HTTP, which favours them.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.support.texts import read_texts

GPU_BATCHES = (256, 1024)
CPU_BATCHES = (16, 64)
NUM_CONNECTIONS = 64
TEI_TEXTS = 32

Setting = tuple[str, Callable[[list[str]], Any]]


def sentence_transformers(model: str) -> Iterator[Setting]:
    """`encode`, which sorts by length; with unpadded attention if the version supports it."""
    import torch
    from sentence_transformers import SentenceTransformer

    gpu = torch.cuda.is_available()
    keywords = {"model_kwargs": {"torch_dtype": torch.float16}, "device": "cuda"} if gpu else {}
    peer = SentenceTransformer(model, **keywords)
    for size in GPU_BATCHES if gpu else CPU_BATCHES:
        yield (
            f"batch_size={size}",
            partial(peer.encode, batch_size=size, show_progress_bar=False),
        )


def infinity(model: str) -> Iterator[Setting]:
    """The engine in this process; on a GPU with BetterTransformer, which is faster than compiling there."""
    import torch
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    async def embed(engine: Any, texts: list[str]) -> None:
        async with engine:
            await engine.embed(sentences=texts)

    def run(engine: Any, texts: list[str]) -> None:
        asyncio.run(embed(engine, texts))

    gpu = torch.cuda.is_available()
    for size in (64, 256) if gpu else CPU_BATCHES:
        engine = AsyncEmbeddingEngine.from_args(
            EngineArgs(
                model_name_or_path=model,
                engine="torch",
                device="cuda" if gpu else "cpu",
                dtype="float16" if gpu else "float32",
                batch_size=size,
                bettertransformer=gpu,
                compile=False,
                model_warmup=False,
            )
        )
        yield f"batch_size={size}", partial(run, engine)


def vllm(model: str) -> Iterator[Setting]:
    """The offline engine with the pooling runner."""
    from vllm import LLM

    engine = LLM(model=model, runner="pooling", dtype="float16", enforce_eager=False)
    yield "LLM.embed", lambda texts: engine.embed(texts, use_tqdm=False)


def tei(url: str) -> Iterator[Setting]:
    """A server over HTTP, with many concurrent connections."""
    import urllib.request

    def post(texts: list[str]) -> None:
        body = json.dumps({"inputs": texts, "truncate": True}).encode()
        request = urllib.request.Request(f"{url}/embed", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            json.load(response)

    def embed(texts: list[str]) -> None:
        batches = [texts[at : at + TEI_TEXTS] for at in range(0, len(texts), TEI_TEXTS)]
        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            list(pool.map(post, batches))

    yield f"{NUM_CONNECTIONS} connections of {TEI_TEXTS} texts", embed


PEERS = {
    "sentence-transformers": (sentence_transformers, ("sentence-transformers", "transformers", "torch")),
    "infinity": (infinity, ("infinity-emb", "transformers", "torch")),
    "vllm": (vllm, ("vllm", "transformers", "torch")),
    "tei": (tei, ()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("model", help="the model's directory, or the server's URL")
    parser.add_argument("texts", type=Path)
    arguments = parser.parse_args()
    texts = read_texts(arguments.texts)
    settings, libraries = PEERS[arguments.peer]
    tried = {name: rate(run, texts) for name, run in settings(arguments.model)}
    best = max(tried, key=lambda name: tried[name])
    report = {
        "peer": arguments.peer,
        "texts_per_s": tried[best],
        "best": best,
        "tried": tried,
        "versions": {name: version(name) for name in libraries},
    }
    print(json.dumps(report))


def rate(run: Callable[[list[str]], Any], texts: list[str]) -> float:
    """Texts/s: the better of two runs, after a warm-up with a quarter of the texts."""
    run(texts[: max(1, len(texts) // 4)])
    taken_s = []
    for _ in range(2):
        started_s = time.perf_counter()
        run(texts)
        taken_s.append(time.perf_counter() - started_s)
    return len(texts) / min(taken_s)


if __name__ == "__main__":
    main()
