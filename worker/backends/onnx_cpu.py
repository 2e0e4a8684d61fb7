"""ONNX Runtime on the CPU: one session, in which each thread computes a micro-batch.

A core is fastest with a few hundred tokens at a time, which stay in its cache, and an operator that is
parallelised over cores waits for the slowest core at each of about a hundred steps. A batch is therefore
split into micro-batches of texts of similar length, and each runs on one thread from end to end.
"""

from contextlib import nullcontext
from threading import Lock
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from producer.errors import BackendError
from worker.backends.cpu_threads import usable_cpus
from worker.backends.micro_batch_pool import Launched, MicroBatchPool
from worker.backends.onnx_errors import onnx_errors
from worker.backends.onnx_session import CPU, open_session
from worker.backends.options import LoadOptions
from worker.backends.validation import check_batch
from worker.contract import Backend, FloatArray, Handle, Tokens
from worker.graphs.builder import Graph
from worker.graphs.flat.graph import build_graph
from worker.graphs.flat.inputs import flat_micro_batches, graph_inputs
from worker.models.model import Model
from worker.models.weights import read_weights

_PRECISIONS = {"cpu": ("fp32", "int8"), "cuda": ("fp16", "fp32")}
# The fastest of 128 to 8192 for texts of 20, 177 and 256 tokens. Where int8 matmuls are fast, the tensors
# between them must stay in a core's own cache: 256 is faster on a CPU with AMX and no slower elsewhere.
_MICRO_BATCH_SLOTS = {"fp32": 512, "int8": 256}
# Without layers nearly all time goes into starting micro-batches: on one core 170,000 texts/s of 25 tokens,
# but 96,000 with 512 slots.
_LAYERLESS_SLOTS = 2048
_LARGE_SLOTS = 1024
_TOKENS_PER_THREAD = 4096  # several micro-batches, so that threads finish at about the same time


def load_onnx(model: Model, options: LoadOptions) -> Backend:
    """The model on ONNX Runtime; on the CPU, it computes on `num_threads` threads (None: one per usable CPU).

    Raises BackendError if ONNX Runtime does not support the options or would run on another device, and
    ModelError if the weights do not match the network.
    """
    device, precision = options.device, options.precision
    if precision not in _PRECISIONS.get(device, ()):
        known = "; ".join(f"{name} with {' or '.join(kinds)}" for name, kinds in _PRECISIONS.items())
        raise BackendError(f"the onnx backend supports {known}, not {device} with {precision}")
    weights = read_weights(model.transformer, model.architecture)
    if device == "cuda":
        from worker.backends.onnx_cuda import load_cuda

        return load_cuda(model, weights, options)
    threads = options.num_threads or usable_cpus()
    graph = build_graph(model, weights, precision=precision)
    slots = _MICRO_BATCH_SLOTS[precision] if model.architecture.layers else _LAYERLESS_SLOTS
    per_thread = max(_TOKENS_PER_THREAD, 8 * slots)
    return OnnxCpuBackend(
        open_session(graph, CPU),
        graph,
        model,
        num_threads=threads,
        micro_batch_slots=slots,
        max_batch_tokens=options.max_batch_tokens or per_thread * threads,
    )


class OnnxCpuBackend:
    """See `Backend`."""

    padded = False

    def __init__(
        self,
        session: Any,
        graph: Graph,
        model: Model,
        *,
        num_threads: int,
        micro_batch_slots: int,
        max_batch_tokens: int,
    ) -> None:
        self.dim = model.dim
        self.max_text_tokens = model.max_text_tokens
        self.max_batch_tokens = max(max_batch_tokens, model.max_text_tokens)
        self.max_batch_texts = self.max_batch_tokens
        self._session = session
        self._graph = graph  # keeps the tensors alive: the session does not copy them
        self._architecture = model.architecture
        self._pools_prompts = model.head.include_prompt
        network = model.architecture
        self._masked = network.causal or any(network.windows) or network.score_cap > 0
        self._micro_batch_slots = micro_batch_slots
        self._large = Lock()
        self._pool = MicroBatchPool(self._run, num_threads=num_threads)
        self._closed = False

    def launch(self, tokens: Tokens) -> Handle:
        """See `Backend`."""
        if self._closed:
            raise BackendError("the backend is closed; load it again")
        check_batch(tokens, self, vocab_size=self._architecture.vocab_size)
        return self._pool.launch(tokens, flat_micro_batches(tokens.lengths, self._micro_batch_slots))

    def collect(self, handle: Handle) -> FloatArray:
        """See `Backend`."""
        return self._pool.collect(cast("Launched", handle), dim=self.dim)

    def close(self) -> None:
        """See `Backend`."""
        self._closed = True
        self._pool.close()

    def _run(self, tokens: Tokens, texts: npt.NDArray[np.intp]) -> FloatArray:
        inputs = graph_inputs(
            tokens, texts, self._architecture.position_offset, pools_prompts=self._pools_prompts
        )
        num_slots = inputs["slots"].shape[1]
        # Masked attention stores all scores, gigabytes for a text this long: compute one such text at a time.
        exclusive = self._large if self._masked and num_slots > _LARGE_SLOTS else nullcontext()
        with exclusive, onnx_errors("compute a batch"):
            found: FloatArray = self._session.run(["vectors"], inputs)[0]
        return found
