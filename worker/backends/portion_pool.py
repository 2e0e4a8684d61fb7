"""A batch in portions, each computed on one thread of a pool from end to end."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.contract import FloatArray, Tokens

Texts = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Launched:
    """The portions of a batch on their way: which texts, and their vectors to come."""

    num_texts: int
    parts: list[tuple[Texts, "Future[FloatArray]"]]


class PortionPool:
    """`run` computes the vectors of some texts of a batch, on up to `num_threads` threads at a time."""

    def __init__(self, run: Callable[[Tokens, Texts], FloatArray], *, num_threads: int) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="onnx")

    def launch(self, tokens: Tokens, portions: Iterable[Texts]) -> Launched:
        """Start all portions, which together are the batch."""
        parts = [(texts, self._pool.submit(self._run, tokens, texts)) for texts in portions]
        return Launched(len(tokens), parts)

    def collect(self, launched: Launched, *, dim: int) -> FloatArray:
        """The vectors of the batch, float32 (n, dim); raises what the first portion that failed did."""
        wait([part for _, part in launched.parts])  # a failed batch leaves nothing running behind
        vectors = np.empty((launched.num_texts, dim), dtype=np.float32)
        for texts, part in launched.parts:
            vectors[texts] = part.result()
        return vectors

    def close(self) -> None:
        """Compute no more; what has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)
