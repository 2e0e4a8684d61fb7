"""The one place where ONNX Runtime's errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from producer.errors import BackendError, BackendOutOfMemory


@contextmanager
def onnx_errors(action: str) -> Iterator[None]:
    """Raise BackendOutOfMemory or BackendError for what ONNX Runtime raises while doing `action`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    # They have no common ancestor but Exception.
    kinds = (
        runtime.EPFail,
        runtime.Fail,
        runtime.InvalidArgument,
        runtime.InvalidGraph,
        runtime.InvalidProtobuf,
        runtime.NotImplemented,
        runtime.RuntimeException,
    )
    try:
        yield
    except MemoryError as error:
        raise BackendOutOfMemory(f"no memory left to {action}; send less at once") from error
    except kinds as error:
        if "allocate memory" in str(error):
            raise BackendOutOfMemory(f"no memory left to {action}; send less at once") from error
        raise BackendError(f"onnxruntime cannot {action}: {error!s:.200}") from error
