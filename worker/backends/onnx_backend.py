"""ONNX Runtime on the CPU: one session, as many batches' portions at a time as there are threads.

A core does best on a few hundred tokens at once, which stay in its cache, and an operator spread over cores
waits for the slowest at each of a hundred steps. So a batch is cut into portions of texts of like length, and
each portion runs on one thread from end to end.
"""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from producer.errors import BackendError
from worker.backends.batch_check import check_batch
from worker.backends.contract import Backend, FloatArray, Handle, Tokens
from worker.backends.cpu_threads import usable_cpus
from worker.backends.flat_inputs import graph_inputs, portions
from worker.backends.onnx_errors import onnx_errors
from worker.build.onnx_graph import build_graph
from worker.build.onnx_nodes import Graph
from worker.model import Model
from worker.weights import read_weights

_PROVIDERS = {"cpu": "CPUExecutionProvider"}
_PRECISIONS = ("fp32", "int8")
_PORTION_SLOTS = 512  # best of 128 to 8192 for texts of 20, 177 and 256 tokens
_PORTIONS_PER_THREAD = 8  # so that threads end a batch at about the same time


def load_onnx(
    model: Model,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    max_batch_tokens: int | None = None,
    num_threads: int | None = None,
) -> Backend:
    """The model on ONNX Runtime, `num_threads` (None: all CPUs this process may use) computing at once.

    Raises BackendError if ONNX Runtime cannot do what is asked or would do it somewhere else, ModelError if
    the weights do not fit the network.
    """
    if device not in _PROVIDERS or precision not in _PRECISIONS:
        raise BackendError(
            f"the onnx backend does cpu with {' or '.join(_PRECISIONS)}, not {device} with {precision}"
        )
    threads = num_threads or usable_cpus()
    graph = build_graph(model, read_weights(model.transformer, model.architecture), precision=precision)
    return _OnnxBackend(
        open_session(graph, _PROVIDERS[device]),
        graph,
        model,
        num_threads=threads,
        max_batch_tokens=max_batch_tokens or _PORTION_SLOTS * _PORTIONS_PER_THREAD * threads,
    )


def open_session(graph: Graph, provider: str) -> Any:
    """A session on the graph with its tensors; BackendError if it would run on another provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # The graph is written with the fused operators we want; more fusing would undo some of it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False  # it would keep a plan for every shape ever seen
    options.log_severity_level = 3
    options.add_external_initializers(
        list(graph.tensors),
        [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in graph.tensors.values()],
    )
    with onnx_errors("load the network"):
        session = onnxruntime.InferenceSession(graph.proto, options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise BackendError(f"onnxruntime chose {session.get_providers()[0]} in place of {provider}")
    return session


@dataclass(frozen=True, slots=True, eq=False)
class _Launched:
    num_texts: int
    parts: list[tuple[npt.NDArray[np.intp], "Future[FloatArray]"]]


class _OnnxBackend:
    """See `Backend`."""

    padded = False

    def __init__(
        self, session: Any, graph: Graph, model: Model, *, num_threads: int, max_batch_tokens: int
    ) -> None:
        self.dim = model.dim
        self.max_text_tokens = model.max_text_tokens
        self.max_batch_tokens = max(max_batch_tokens, model.max_text_tokens)
        self.max_batch_texts = self.max_batch_tokens
        self._session = session
        self._graph = graph  # the session reads its tensors where they lie
        self._architecture = model.architecture
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="onnx")
        self._closed = False

    def launch(self, tokens: Tokens) -> Handle:
        if self._closed:
            raise BackendError("the backend was closed; load it again")
        check_batch(tokens, self, vocab_size=self._architecture.vocab_size)
        cut = portions(tokens.lengths, _PORTION_SLOTS)
        return _Launched(len(tokens), [(texts, self._pool.submit(self._run, tokens, texts)) for texts in cut])

    def collect(self, handle: Handle) -> FloatArray:
        launched = cast("_Launched", handle)
        wait([part for _, part in launched.parts])  # a failed batch leaves nothing running behind
        vectors = np.empty((launched.num_texts, self.dim), dtype=np.float32)
        for texts, part in launched.parts:
            vectors[texts] = part.result()
        return vectors

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(cancel_futures=True)

    def _run(self, tokens: Tokens, texts: npt.NDArray[np.intp]) -> FloatArray:
        inputs = graph_inputs(tokens, texts, self._architecture.position_offset)
        with onnx_errors("compute a batch"):
            found: FloatArray = self._session.run(["vectors"], inputs)[0]
        return found
