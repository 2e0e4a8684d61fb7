"""Runs a plan: one execution context per bucket, captured as a CUDA graph when the plan is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from producer.errors import BackendError, BackendOutOfMemory
from worker.engines.cuda_driver import Cuda
from worker.engines.library import create, error_logger, first_error
from worker.engines.runtime_cache import RuntimeCache
from worker.engines.shapes import Bucket, Shape

log = structlog.stdlib.get_logger(__name__)

OUTPUT = "vectors"


class TensorrtEngine:
    """Runs batches of exactly a bucket's size, with fixed input and output buffers.

    `input_dims` has the number of dimensions of each of its inputs, all int32. `inputs` and `output` are the
    addresses of GPU buffers large enough for every bucket. The constructor compiles, allocates and captures
    everything.
    """

    def __init__(
        self,
        plan: memoryview,
        shapes: tuple[Shape, ...],
        *,
        input_dims: Mapping[str, int],
        dim: int,
        library: Any,
        cuda: Cuda,
        runtime_cache: Path,
    ) -> None:
        self._input_dims = input_dims
        self._library = library
        self._cuda = cuda
        self._logger = error_logger(library)
        self._runtime = create(library, "Runtime", self._logger)
        self._engine = self._deserialised(plan)
        self._check(shapes, dim)
        self._kernels = RuntimeCache(runtime_cache)
        self._config = self._runtime_config()
        most_slots = max(shape.max_texts * shape.num_tokens for shape in shapes)
        most_texts = max(shape.max_texts for shape in shapes)
        sizes = {name: most_slots if dims == 2 else most_texts for name, dims in input_dims.items()}
        self.inputs = {name: cuda.allocate(4 * size) for name, size in sizes.items()}
        self.output = cuda.allocate(4 * most_texts * dim)
        self._scratch_bytes = max(
            [1] + [self._engine.get_device_memory_size_for_profile_v2(index) for index in range(len(shapes))]
        )
        self._scratch = cuda.allocate(self._scratch_bytes)
        self._contexts: dict[Bucket, Any] = {}
        self._graphs: dict[Bucket, int] = {}
        for index, shape in enumerate(shapes):
            for bucket in shape.buckets:
                self._prepare(bucket, index)
        cuda.synchronize()
        self._kernels.save()
        self._logger.errors.clear()  # drop errors that the library recovered from
        log.info("plan_ready", buckets=len(self._contexts), graphs=len(self._graphs))

    def run(self, bucket: Bucket) -> None:
        """Enqueue a batch of the bucket's size on the stream. Raises BackendError if TensorRT fails."""
        graph = self._graphs.get(bucket)
        if graph is not None:
            self._cuda.launch(graph)
        else:
            self._enqueue(self._contexts[bucket])

    def close(self) -> None:
        """Free TensorRT's objects in reverse order of creation; closing the driver frees the memory."""
        self._graphs.clear()
        self._contexts.clear()
        self._kernels.close()
        self._config = self._engine = self._runtime = None

    def _deserialised(self, plan: memoryview) -> Any:
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            error = first_error(self._logger)
            if "out of memory" in error.lower() or "outofmemory" in error.lower():
                raise BackendOutOfMemory(f"the GPU does not have enough memory for the plan: {error}")
            raise BackendError(
                f"{self._library.__name__} does not load the plan: {error}; remove it and run "
                "`worker build-engines` on this machine"
            )
        return engine

    def _check(self, shapes: tuple[Shape, ...], dim: int) -> None:
        """Reject a plan with other tensors or shapes, for which the buffers would have the wrong sizes."""
        engine, library = self._engine, self._library
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        inputs = self._input_dims
        expected = [library.DataType.INT32] * len(inputs) + [library.DataType.FLOAT]
        fits = (
            names == {*inputs, OUTPUT}
            and [engine.get_tensor_dtype(name) for name in (*inputs, OUTPUT)] == expected
            and tuple(engine.get_tensor_shape(OUTPUT)) == (-1, dim)
            and engine.num_optimization_profiles == len(shapes)
            and all(
                tuple(engine.get_tensor_profile_shape("ids", index)[2]) == (shape.max_texts, shape.num_tokens)
                for index, shape in enumerate(shapes)
            )
        )
        if not fits:
            raise BackendError(
                "the plan does not have the expected inputs, output and shapes; remove it and run "
                "`worker build-engines`"
            )

    def _runtime_config(self) -> Any:
        """For TensorRT for RTX: compile the kernels of every bucket at load, not on first use."""
        if self._library.__name__ != "tensorrt_rtx":
            return None
        config = self._engine.create_runtime_config()
        strategy = self._library.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = strategy
        config.set_execution_context_allocation_strategy(self._user_managed)
        self._kernels.attach(config)
        return config

    @property
    def _user_managed(self) -> Any:
        return self._library.ExecutionContextAllocationStrategy.USER_MANAGED

    def _prepare(self, bucket: Bucket, profile_index: int) -> None:
        """Create and capture the bucket's own context: a captured graph depends on its context's state."""
        context = self._engine.create_execution_context(self._config or self._user_managed)
        if context is None:
            raise BackendError(f"TensorRT cannot create a context for {bucket}: {first_error(self._logger)}")
        stream = self._cuda.stream
        # Batches run sequentially on one stream, so all contexts can share scratch memory.
        context.set_device_memory(self._scratch, self._scratch_bytes)
        full = (bucket.num_texts, bucket.num_tokens)
        done = [
            context.set_optimization_profile_async(profile_index, stream),
            *(context.set_input_shape(name, full[:dims]) for name, dims in self._input_dims.items()),
            *(context.set_tensor_address(name, self.inputs[name]) for name in self._input_dims),
            context.set_tensor_address(OUTPUT, self.output),
        ]
        if not all(done):
            raise BackendError(f"TensorRT does not accept {bucket}: {first_error(self._logger)}")
        self._contexts[bucket] = context
        # The first run resolves shapes and compiles kernels; only the second can be captured.
        self._enqueue(context)
        self._cuda.synchronize()
        capturable = getattr(context, "is_stream_capturable", None)
        if capturable is None or capturable(stream):
            self._cuda.begin_capture()
            taken = context.execute_async_v3(stream)
            graph = self._cuda.end_capture()
            if taken and graph is not None:
                self._graphs[bucket] = graph

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self._cuda.stream):
            raise BackendError(f"TensorRT cannot compute a batch: {first_error(self._logger)}")
