"""A worker with a simulated device, as fast as a GPU but without computing, to measure the worker itself.

    EMBEDMILL_MODEL=fake/echo python -m benchmarks.stages.stand_in TOKENS_PER_S BATCH_TOKENS

It prints `ready`. For each line on standard input it prints JSON: the CPU seconds of each kind of thread so
far, and how long the device was busy.
"""

import asyncio
import json
import sys
import threading
import time
from dataclasses import replace
from typing import cast

import numpy as np
import psutil

from worker.backends.validation import check_batch
from worker.contract import FloatArray, Handle, Tokens
from worker.serving.app import serve
from worker.settings import read_settings
from worker.startup.boot import boot

_TOKENS_PER_TEXT = 4  # limits the number of texts, as in worker/encoder/cuda_pipeline.py


class SimulatedDevice:
    """See `worker.contract.Backend`; a text's vector depends only on its place in the batch."""

    padded = False

    def __init__(self, *, dim: int, max_text_tokens: int, max_batch_tokens: int, tokens_per_s: float) -> None:
        self.dim = dim
        self.max_text_tokens = max_text_tokens
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_texts = max_batch_tokens // _TOKENS_PER_TEXT
        self.busy_s = 0.0
        self._tokens_per_s = tokens_per_s
        self._free_at_s = 0.0
        vectors = np.random.default_rng(0).normal(size=(self.max_batch_texts, dim)).astype(np.float32)
        self._vectors: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def launch(self, tokens: Tokens) -> Handle:
        """The number of texts and the time when they are done; batches run one after another."""
        check_batch(tokens, self, vocab_size=np.iinfo(np.int32).max)
        cost_s = len(tokens.ids) / self._tokens_per_s
        self.busy_s += cost_s
        self._free_at_s = max(self._free_at_s, time.perf_counter()) + cost_s
        return len(tokens), self._free_at_s

    def collect(self, handle: Handle) -> FloatArray:
        """Sleep until the batch is done."""
        num_texts, done_at_s = cast("tuple[int, float]", handle)
        time.sleep(max(0.0, done_at_s - time.perf_counter()))
        return self._vectors[:num_texts].copy()

    def close(self) -> None:
        """Nothing to free."""


def main() -> None:
    settings = read_settings()
    booted = boot(settings)
    backend = SimulatedDevice(
        dim=booted.backend.dim,
        max_text_tokens=booted.backend.max_text_tokens,
        tokens_per_s=float(sys.argv[1]),
        max_batch_tokens=int(sys.argv[2]),
    )
    threading.Thread(target=answer, args=(backend,), name="benchmark", daemon=True).start()
    asyncio.run(serve(settings, replace(booted, backend=backend), on_ready=lambda _: say("ready")))


def answer(backend: SimulatedDevice) -> None:
    """Print a report for each line of input."""
    for _ in sys.stdin:
        say(json.dumps({"busy_s": backend.busy_s, "threads_s": threads_s()}))


def threads_s() -> dict[str, float]:
    """CPU seconds by thread name; the threads of a pool are added up."""
    names = {
        thread.native_id: thread.name.rpartition("_")[0] or thread.name for thread in threading.enumerate()
    }
    found: dict[str, float] = {}
    for thread in psutil.Process().threads():
        name = names.get(thread.id, "other")
        found[name] = found.get(name, 0.0) + thread.user_time + thread.system_time
    return found


def say(line: str) -> None:
    """Print and flush a line."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
