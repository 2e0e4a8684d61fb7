"""TensorRT as a backend: padded batches cut into buckets, each bucket a CUDA graph on one stream."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import structlog

from producer.errors import BackendError
from worker.backends.options import LoadOptions
from worker.backends.validation import check_batch
from worker.contract import Backend, FloatArray, Handle, Tokens
from worker.engines.buckets import Portion, bucket_portions
from worker.engines.cuda_driver import Bytes, Cuda, open_cuda
from worker.engines.engine import TensorrtEngine
from worker.engines.library import open_library
from worker.engines.plan_file import read_plan
from worker.engines.shapes import Shape
from worker.graphs.padded.inputs import padded_inputs
from worker.models.model import Model

log = structlog.stdlib.get_logger(__name__)

_IN_FLIGHT = 2


def load_tensorrt(
    model: Model, options: LoadOptions, *, library: Any = None, cuda: Cuda | None = None
) -> Backend:
    """The options' plan on the first GPU that this process sees, with every bucket run once and captured.

    Its limits are those it was built with. `library` and `cuda` replace TensorRT and the driver in tests.
    Raises BackendError if there is no plan, or it is damaged or built for another GPU, library or version.
    """
    plan = options.plan
    if plan is None:
        raise BackendError("the tensorrt backend needs a plan, and got none; run `worker build-engines`")
    content = read_plan(plan.path, plan.spec.key)
    library = library or open_library(plan.spec.plan.library)
    device = cuda or open_cuda()
    try:
        engine = TensorrtEngine(
            content,
            plan.spec.shapes,
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
    """Host memory of one batch in flight, and the event after which it can be used again."""

    inputs: Bytes
    output: Bytes
    done: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Launched:
    num_texts: int
    portions: list[Portion]
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
        self._shapes = shapes
        self._engine: TensorrtEngine | None = engine
        self._cuda = cuda
        # The buckets of a batch have at most three times its slots in all: see `bucket_portions`.
        in_bytes = 4 * 3 * (3 * self.max_batch_tokens)
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
            raise BackendError("the tensorrt backend is closed; load another one")
        if not self._free:
            raise BackendError(f"{_IN_FLIGHT} batches are in flight; collect one before the next")
        check_batch(tokens, self, vocab_size=self._architecture.vocab_size)
        self._cuda.enter()
        staging = self._free.pop()
        try:
            cut = bucket_portions(tokens.lengths, self._shapes)
            self._send(engine, tokens, cut, staging)
        except BaseException:
            self._cuda.synchronize()  # the next batch overwrites memory that copies may still be reading
            self._free.append(staging)
            raise
        return _Launched(num_texts=len(tokens), portions=cut, staging=staging)

    def collect(self, handle: Handle) -> FloatArray:
        launched = cast("_Launched", handle)
        self._cuda.enter()
        self._cuda.wait(launched.staging.done)
        rows = launched.staging.output.view(np.float32)[: launched.num_texts * self.dim]
        vectors = np.empty((launched.num_texts, self.dim), dtype=np.float32)
        order = np.concatenate([portion.texts for portion in launched.portions])
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

    def _send(self, engine: TensorrtEngine, tokens: Tokens, cut: list[Portion], staging: _Staging) -> None:
        """Copy in, run and copy out each portion in turn; the stream keeps the order."""
        read, written = 0, 0
        for portion in cut:
            arrays = padded_inputs(
                tokens,
                portion.texts,
                self._architecture.position_offset,
                num_texts=portion.bucket.num_texts,
                num_tokens=portion.bucket.num_tokens,
            )
            for name, array in arrays.items():
                place = staging.inputs[read : read + array.nbytes]
                place[:] = _bytes(array)
                self._cuda.copy_in(engine.inputs[name], place)
                read += array.nbytes
            engine.run(portion.bucket)
            num_bytes = 4 * self.dim * len(portion.texts)
            self._cuda.copy_out(staging.output[written : written + num_bytes], engine.output)
            written += num_bytes
        self._cuda.record(staging.done)


def _bytes(array: npt.NDArray[Any]) -> Bytes:
    return array.reshape(-1).view(np.uint8)
