"""Long texts in networks whose attention holds every score: one at a time, whatever the number of threads."""

import threading
import time
from typing import Any

import numpy as np
import pytest
from support.onnx_models import model_of, rotary

from worker.backends.onnx_cpu import OnnxCpuBackend
from worker.contract import Tokens
from worker.graphs.builder import Graph


class CountingSession:
    """A session that takes a while and knows how many runs there were at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
        """Vectors of zeros."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.2)
        with self._lock:
            self._now -= 1
        return [np.zeros((len(inputs["lengths"]), 32), np.float32)]


@pytest.mark.parametrize(
    ("causal", "length", "together"), [(True, 1500, False), (True, 300, True), (False, 1500, True)]
)
def test_long_texts_take_turns_where_scores_are_held(causal: bool, length: int, together: bool) -> None:
    """Three texts on three threads: at once, unless they are long and attention has walls."""
    session, model = CountingSession(), model_of(rotary(causal=causal, max_positions=2000))
    backend = OnnxCpuBackend(
        session, Graph(b"", {}), model, num_threads=3, micro_batch_slots=512, max_batch_tokens=6000
    )
    tokens = Tokens(np.full(3 * length, 7, np.int32), (np.arange(4) * length).astype(np.int32))
    backend.collect(backend.launch(tokens))
    backend.close()
    assert (session.most > 1) == together
