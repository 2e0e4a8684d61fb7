"""Computes a batch in portions, each on one thread of a pool from end to end."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from worker.contract import FloatArray, Indices, Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Launched:
    """The portions of a batch in flight: their texts, and futures of their vectors."""

    num_texts: int
    parts: list[tuple[Indices, "Future[FloatArray]"]]


class PortionPool:
    """Calls `run` with portions of a batch, on up to `num_threads` threads at a time."""

    def __init__(self, run: Callable[[Tokens, Indices], FloatArray], *, num_threads: int) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="onnx")

    def launch(self, tokens: Tokens, portions: Iterable[Indices]) -> Launched:
        """Start all portions of the batch."""
        parts = [(texts, self._pool.submit(self._run, tokens, texts)) for texts in portions]
        return Launched(len(tokens), parts)

    def collect(self, launched: Launched, *, dim: int) -> FloatArray:
        """The vectors of the batch, float32 (n, dim). Raises the error of the first portion that failed."""
        wait([part for _, part in launched.parts])  # so that a failed batch leaves nothing running
        vectors = np.empty((launched.num_texts, dim), dtype=np.float32)
        for texts, part in launched.parts:
            vectors[texts] = part.result()
        return vectors

    def close(self) -> None:
        """Finish running portions, and drop those that have not started."""
        self._pool.shutdown(cancel_futures=True)
