"""A custom ONNX graph on ONNX Runtime, with padded batches, followed by our own graph for pooling.

There are two sessions rather than one merged graph: this leaves the custom graph unchanged, and the tensors
between the two stay on the device.
"""

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from producer.errors import BackendError
from worker.backends.cpu_threads import usable_cpus
from worker.backends.micro_batch_pool import Launched, MicroBatchPool
from worker.backends.onnx_errors import onnx_errors
from worker.backends.onnx_session import open_session
from worker.backends.options import LoadOptions
from worker.backends.validation import check_batch
from worker.contract import Backend, FloatArray, Handle, Tokens
from worker.graphs.builder import Graph
from worker.graphs.custom.head import custom_head
from worker.graphs.custom.inputs import custom_micro_batches, custom_padded_inputs, slot_inputs
from worker.models.custom_model import padding_id
from worker.models.model import Model
from worker.models.onnx.graph_file import GraphFile, load_proto
from worker.models.onnx.stored_tensors import check_tensors
from worker.tokenization.token_types import uses_token_types

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_MICRO_BATCH_SLOTS = 512  # on CPUs, as in onnx_cpu.py
_MICRO_BATCHES_PER_THREAD = 8
_CUDA_BATCH_TOKENS = 16_384


def load_custom_onnx(model: Model, options: LoadOptions) -> Backend:
    """The model's own graph, loaded and tested on a text of one token.

    Raises ModelError if its tensors are incomplete or contain NaN, and BackendError if it cannot be loaded or
    run here.
    """
    device = options.device
    graph = model.graph
    if graph is None:
        raise BackendError("the model does not come with an ONNX graph; choose another backend")
    if any(each.role == "types" for each in graph.inputs) and uses_token_types(model.transformer):
        raise BackendError("the model's tokenizer uses token types other than 0, which are not supported")
    check_tensors(graph.path, load_proto(graph.path))
    threads = 1 if device == "cuda" else options.num_threads or usable_cpus()
    default_budget = (
        _CUDA_BATCH_TOKENS if device == "cuda" else _MICRO_BATCH_SLOTS * _MICRO_BATCHES_PER_THREAD * threads
    )
    return _CustomOnnxBackend(
        model,
        graph,
        _open(graph, _PROVIDERS[device]),
        device=device,
        num_threads=threads,
        max_batch_tokens=max(options.max_batch_tokens or default_budget, model.max_text_tokens),
    )


def _open(graph: GraphFile, provider: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    with onnx_errors(f"load {graph.path.name}"):
        session = onnxruntime.InferenceSession(str(graph.path), options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise BackendError(f"onnxruntime chose {session.get_providers()[0]} instead of {provider}")
    return session


class _CustomOnnxBackend:
    """See `Backend`."""

    padded = True

    def __init__(
        self,
        model: Model,
        graph: GraphFile,
        session: Any,
        *,
        device: str,
        num_threads: int,
        max_batch_tokens: int,
    ) -> None:
        self.max_text_tokens = model.max_text_tokens
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_texts = max_batch_tokens
        self._model = model
        self._graph = graph
        self._session = session
        self._device = device
        self._micro_batch_slots = max_batch_tokens if device == "cuda" else _MICRO_BATCH_SLOTS
        self._pool = MicroBatchPool(self._run, num_threads=num_threads)
        self._closed = False
        self._padding_id = padding_id(model)
        self._head = self._build_head()  # keeps the tensors alive: the session does not copy them
        self._head_session = open_session(self._head, _PROVIDERS[device])
        self.dim = int(self._head_session.get_outputs()[0].shape[1])

    def launch(self, tokens: Tokens) -> Handle:
        if self._closed:
            raise BackendError("the backend is closed; load it again")
        vocab_size = self._graph.vocab_size or self._model.architecture.vocab_size
        check_batch(tokens, self, vocab_size=vocab_size)
        return self._pool.launch(
            tokens, custom_micro_batches(tokens.lengths, self._graph, max_slots=self._micro_batch_slots)
        )

    def collect(self, handle: Handle) -> FloatArray:
        return self._pool.collect(cast("Launched", handle), dim=self.dim)

    def close(self) -> None:
        self._closed = True
        self._pool.close()

    def _build_head(self) -> Graph:
        """The head for the shape of the graph's output. Raises BackendError if that shape is unexpected."""
        one = Tokens(np.array([self._padding_id], np.int32), np.array([0, 1], np.int32))
        states = self._states(one, np.array([0], dtype=np.intp))
        shape, num_texts = states.shape(), self._graph.num_texts or 1
        expected = [num_texts] if self._graph.pooled else [num_texts, self._graph.num_tokens or 1]
        if shape[:-1] != expected:
            raise BackendError(
                f"{self._graph.path.name} outputs {self._graph.output} of shape {shape} for a batch of "
                f"{num_texts} x {self._graph.num_tokens or 1} tokens; {[*expected, 'size']} is expected"
            )
        kind = states.element_type()
        return custom_head(self._model, shape, element_type=kind, pooled=self._graph.pooled)

    def _states(self, tokens: Tokens, texts: npt.NDArray[np.intp]) -> Any:
        """The custom graph's output on the device, an OrtValue (B, S, hidden) or (B, size)."""
        binding = self._session.io_binding()
        inputs = custom_padded_inputs(
            tokens,
            texts,
            self._graph,
            position_offset=self._model.architecture.position_offset,
            padding_id=self._padding_id,
        )
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        binding.bind_output(self._graph.output, self._device)
        longest = int(tokens.lengths[texts].max())
        with onnx_errors(
            f"run {self._graph.path.name} on a text of {longest} tokens (if it takes shorter ones only, set "
            "max_seq_length in sentence_bert_config.json)"
        ):
            self._session.run_with_iobinding(binding)
        return binding.get_outputs()[0]

    def _run(self, tokens: Tokens, texts: npt.NDArray[np.intp]) -> FloatArray:
        states = self._states(tokens, texts)
        binding = self._head_session.io_binding()
        binding.bind_ortvalue_input("states", states)
        if not self._graph.pooled:
            pools_prompts = self._model.head.include_prompt
            slots = slot_inputs(tokens, texts, states.shape(), pools_prompts=pools_prompts)
            for name, value in slots.items():
                binding.bind_cpu_input(name, value)
        binding.bind_output("vectors", "cpu")
        with onnx_errors("pool a batch"):
            self._head_session.run_with_iobinding(binding)
        found: FloatArray = binding.get_outputs()[0].numpy()[: len(texts)]
        return found
