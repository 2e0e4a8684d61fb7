"""Translates ONNX Runtime's errors into the project's."""

from collections.abc import Iterator
from contextlib import contextmanager

from producer.errors import BackendDead, BackendError, BackendOutOfMemory


@contextmanager
def onnx_errors(action: str) -> Iterator[None]:
    """Raise BackendOutOfMemory, BackendDead or BackendError for what ONNX Runtime raises in the block."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    # The only base class that these share is Exception.
    kinds = (
        runtime.EPFail,
        runtime.Fail,
        runtime.InvalidArgument,
        runtime.InvalidGraph,
        runtime.InvalidProtobuf,
        runtime.NotImplemented,
        runtime.RuntimeException,
        RuntimeError,  # raised by run_with_iobinding
    )
    try:
        yield
    except MemoryError as error:
        raise BackendOutOfMemory(f"out of memory: cannot {action}; send a smaller batch") from error
    except kinds as error:
        text = str(error)
        # cuBLAS and cuDNN report "the resource allocation failed" or ALLOC_FAILED.
        if any(
            sign in text for sign in ("allocate memory", "out of memory", "allocation failed", "ALLOC_FAILED")
        ):
            raise BackendOutOfMemory(f"out of memory: cannot {action}; send a smaller batch") from error
        if "CUDA failure" in text or "CUDA error" in text:
            # After a device error, every later CUDA call in this process fails.
            raise BackendDead(f"the GPU failed: cannot {action}: {text:.200}; restart the worker") from error
        raise BackendError(f"onnxruntime cannot {action}: {error!s:.200}") from error
