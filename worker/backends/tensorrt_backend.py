"""TensorRT as a backend: a batch is split into padded buckets, each a CUDA graph on one stream."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import structlog

from producer.errors import BackendError
from worker.backends.options import LoadOptions
from worker.backends.validation import check_batch
from worker.contract import Backend, FloatArray, Handle, Tokens
from worker.engines.buckets import MicroBatch, split_into_buckets
from worker.engines.cuda_driver import Bytes, Cuda, open_cuda
from worker.engines.engine import TensorrtEngine
from worker.engines.library import open_library
from worker.engines.plan_file import read_plan
from worker.engines.shapes import Shape
from worker.graphs.padded.inputs import input_dims, padded_inputs
from worker.models.model import Model

log = structlog.stdlib.get_logger(__name__)

_IN_FLIGHT = 2


def load_tensorrt(
    model: Model, options: LoadOptions, *, library: Any = None, cuda: Cuda | None = None
) -> Backend:
    """The plan in the options on the first visible GPU, with every bucket run once and captured.

    The limits are those that the plan was built with. `library` and `cuda` replace TensorRT and the driver in
    tests. Raises BackendError if the plan is missing, damaged, or built for another GPU, library or version.
    """
    plan = options.plan
    if plan is None:
        raise BackendError("the tensorrt backend needs a plan and was given none; run `worker build-engines`")
    content = read_plan(plan.path, plan.spec.key)
    library = library or open_library(plan.spec.plan.library)
    device = cuda or open_cuda()
    try:
        engine = TensorrtEngine(
            content,
            plan.spec.shapes,
            input_dims=input_dims(pools_prompts=model.head.include_prompt),
            dim=model.dim,
            library=library,
            cuda=device,
            runtime_cache=plan.path.with_suffix(".kernels"),
        )
        return TensorrtBackend(engine, plan.spec.shapes, model, device)
    except BaseException:
        device.close()
        raise


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Staging:
    """Host memory of one batch in flight, and the event after which it can be reused."""

    inputs: Bytes
    output: Bytes
    done: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Launched:
    num_texts: int
    micro_batches: list[MicroBatch]
    staging: _Staging


class TensorrtBackend:
    """See `Backend`."""

    padded = True

    def __init__(self, engine: TensorrtEngine, shapes: tuple[Shape, ...], model: Model, cuda: Cuda) -> None:
        self.dim = model.dim
        self.max_text_tokens = shapes[-1].num_tokens
        self.max_batch_tokens = max(shape.max_texts * shape.num_tokens for shape in shapes)
        self.max_batch_texts = shapes[0].max_texts
        self._architecture = model.architecture
        self._pools_prompts = model.head.include_prompt
        self._shapes = shapes
        self._engine: TensorrtEngine | None = engine
        self._cuda = cuda
        # The buckets of a batch have at most three times its slots in total: see `split_into_buckets`.
        num_inputs = len(input_dims(pools_prompts=self._pools_prompts))
        in_bytes = 4 * num_inputs * (3 * self.max_batch_tokens)
        out_bytes = 4 * self.dim * self.max_batch_texts
        self._free = [
            _Staging(
                inputs=cuda.allocate_host(in_bytes), output=cuda.allocate_host(out_bytes), done=cuda.event()
            )
            for _ in range(_IN_FLIGHT)
        ]

    def launch(self, tokens: Tokens) -> Handle:
        engine = self._engine
        if engine is None:
            raise BackendError("the tensorrt backend is closed; load it again")
        if not self._free:
            raise BackendError(f"{_IN_FLIGHT} batches are in flight; collect one before launching the next")
        check_batch(tokens, self, vocab_size=self._architecture.vocab_size)
        self._cuda.enter()
        staging = self._free.pop()
        try:
            micro_batches = split_into_buckets(tokens.lengths, self._shapes)
            self._enqueue(engine, tokens, micro_batches, staging)
        except BaseException:
            self._cuda.synchronize()  # copies may still be reading memory that the next batch overwrites
            self._free.append(staging)
            raise
        return _Launched(num_texts=len(tokens), micro_batches=micro_batches, staging=staging)

    def collect(self, handle: Handle) -> FloatArray:
        launched = cast("_Launched", handle)
        self._cuda.enter()
        self._cuda.wait(launched.staging.done)
        rows = launched.staging.output.view(np.float32)[: launched.num_texts * self.dim]
        vectors = np.empty((launched.num_texts, self.dim), dtype=np.float32)
        order = np.concatenate([micro_batch.texts for micro_batch in launched.micro_batches])
        vectors[order] = rows.reshape(-1, self.dim)
        self._free.append(launched.staging)
        return vectors

    def close(self) -> None:
        if self._engine is not None:
            self._cuda.enter()
            self._cuda.synchronize()
            self._engine.close()
            self._engine = None
            self._cuda.close()

    def _enqueue(
        self, engine: TensorrtEngine, tokens: Tokens, micro_batches: list[MicroBatch], staging: _Staging
    ) -> None:
        """Enqueue copying in, computing and copying out for each micro-batch, in stream order."""
        read, written = 0, 0
        for micro_batch in micro_batches:
            arrays = padded_inputs(
                tokens,
                micro_batch.texts,
                self._architecture.position_offset,
                num_texts=micro_batch.bucket.num_texts,
                num_tokens=micro_batch.bucket.num_tokens,
                pools_prompts=self._pools_prompts,
            )
            for name, array in arrays.items():
                place = staging.inputs[read : read + array.nbytes]
                place[:] = _bytes(array)
                self._cuda.copy_in(engine.inputs[name], place)
                read += array.nbytes
            engine.run(micro_batch.bucket)
            num_bytes = 4 * self.dim * len(micro_batch.texts)
            self._cuda.copy_out(staging.output[written : written + num_bytes], engine.output)
            written += num_bytes
        self._cuda.record(staging.done)


def _bytes(array: npt.NDArray[Any]) -> Bytes:
    return array.reshape(-1).view(np.uint8)
