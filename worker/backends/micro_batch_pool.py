"""Computes a batch as micro-batches, each on one thread of a pool from end to end."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from worker.contract import FloatArray, Indices, Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Launched:
    """The micro-batches of a batch in flight: the indices of their texts, and futures of their vectors."""

    num_texts: int
    micro_batches: list[tuple[Indices, "Future[FloatArray]"]]


class MicroBatchPool:
    """Calls `run` for each micro-batch of a batch, on up to `num_threads` threads at a time."""

    def __init__(self, run: Callable[[Tokens, Indices], FloatArray], *, num_threads: int) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="onnx")

    def launch(self, tokens: Tokens, micro_batches: Iterable[Indices]) -> Launched:
        """Start all micro-batches of the batch, each given by the indices of its texts."""
        started = [(texts, self._pool.submit(self._run, tokens, texts)) for texts in micro_batches]
        return Launched(len(tokens), started)

    def collect(self, launched: Launched, *, dim: int) -> FloatArray:
        """The vectors of the batch, float32 (n, dim). Raises the first error among the micro-batches."""
        # Wait for all, so that a failed batch leaves nothing running.
        wait([future for _, future in launched.micro_batches])
        vectors = np.empty((launched.num_texts, dim), dtype=np.float32)
        for texts, future in launched.micro_batches:
            vectors[texts] = future.result()
        return vectors

    def close(self) -> None:
        """Wait for running micro-batches and cancel those that have not started."""
        self._pool.shutdown(cancel_futures=True)
