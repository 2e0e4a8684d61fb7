"""The few CUDA driver calls that running a plan needs, through ctypes: libcuda comes with every driver.

We do not use cuda-core: its exceptions have a message but no status code, and the code decides whether a
batch is split and retried, a graph is skipped, or the worker exits. TensorRT does not install CUDA's Python
bindings either.
"""

import ctypes
from typing import Protocol

import numpy as np
import numpy.typing as npt

from producer.errors import BackendDead, BackendError, BackendOutOfMemory

Bytes = npt.NDArray[np.uint8]

_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
_CAPTURE_ERRORS = range(900, 909)  # CUDA_ERROR_STREAM_CAPTURE_*: the capture failed, not the GPU
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the legacy default stream
_NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may keep calling CUDA


class Cuda(Protocol):
    """One GPU's memory, stream, events and graphs; handles are integers.

    Every call raises BackendOutOfMemory or BackendDead if the driver reports an error.
    """

    stream: int

    def enter(self) -> None:
        """Make the GPU's context current on this thread; must be the thread's first call."""

    def allocate(self, num_bytes: int) -> int:
        """The address of new GPU memory, aligned to 256 bytes."""

    def allocate_host(self, num_bytes: int) -> Bytes:
        """New pinned host memory, for asynchronous copies to and from the GPU."""

    def copy_in(self, target: int, source: Bytes) -> None:
        """Copy host memory to the GPU, in stream order."""

    def copy_out(self, target: Bytes, source: int) -> None:
        """Copy GPU memory to the host, in stream order."""

    def event(self) -> int:
        """A new event."""

    def record(self, event: int) -> None:
        """Record the event in the stream."""

    def wait(self, event: int) -> None:
        """Block until the event has completed."""

    def synchronize(self) -> None:
        """Block until the stream is idle."""

    def begin_capture(self) -> None:
        """Start capturing work on the stream instead of running it."""

    def end_capture(self) -> int | None:
        """The captured graph, ready to launch; None if some of the work cannot be captured."""

    def launch(self, graph: int) -> None:
        """Launch a graph in stream order."""

    def close(self) -> None:
        """Free everything."""


def open_cuda() -> "CudaDriver":
    """Open the first GPU visible to this process. Raises BackendError without a driver or GPU."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BackendError(
            f"the NVIDIA driver's libcuda.so.1 does not load ({error!s:.120}); install the driver"
        ) from error
    return CudaDriver(library)


class CudaDriver:
    """See `Cuda`. Uses the primary context, which TensorRT's runtime calls share."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._device = ctypes.c_int()
        self._context = ctypes.c_void_p()
        self._memory: list[int] = []
        self._host: list[int] = []
        self._events: list[int] = []
        self._graphs: list[int] = []
        self._call("cuInit", ctypes.c_uint(0))
        self._call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(0))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.enter()
        self.stream = self._create("cuStreamCreate", ctypes.c_uint(_NON_BLOCKING))

    def enter(self) -> None:
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, num_bytes: int) -> int:
        self._memory.append(self._create("cuMemAlloc_v2", ctypes.c_size_t(num_bytes)))
        return self._memory[-1]

    def allocate_host(self, num_bytes: int) -> Bytes:
        address = self._create("cuMemHostAlloc", ctypes.c_size_t(num_bytes), ctypes.c_uint(0))
        self._host.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * num_bytes).from_address(address))

    def copy_in(self, target: int, source: Bytes) -> None:
        self._copy("cuMemcpyHtoDAsync_v2", target, source.ctypes.data, source.nbytes)

    def copy_out(self, target: Bytes, source: int) -> None:
        self._copy("cuMemcpyDtoHAsync_v2", target.ctypes.data, source, target.nbytes)

    def event(self) -> int:
        self._events.append(self._create("cuEventCreate", ctypes.c_uint(_NO_TIMING)))
        return self._events[-1]

    def record(self, event: int) -> None:
        self._call("cuEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(self.stream))

    def wait(self, event: int) -> None:
        self._call("cuEventSynchronize", ctypes.c_void_p(event))

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", ctypes.c_void_p(self.stream))

    def begin_capture(self) -> None:
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(self.stream), ctypes.c_int(_THREAD_LOCAL))

    def end_capture(self) -> int | None:
        captured = ctypes.c_void_p()
        stream = ctypes.c_void_p(self.stream)
        status = self._library.cuStreamEndCapture(stream, ctypes.byref(captured))
        if status in _CAPTURE_ERRORS:
            return None
        _check("cuStreamEndCapture", status)
        executable = self._create("cuGraphInstantiateWithFlags", captured, ctypes.c_ulonglong(0))
        self._call("cuGraphDestroy", captured)
        self._graphs.append(executable)
        return executable

    def launch(self, graph: int) -> None:
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(self.stream))

    def close(self) -> None:
        self.enter()
        self.synchronize()
        for name, handles in (
            ("cuGraphExecDestroy", self._graphs),
            ("cuEventDestroy_v2", self._events),
            ("cuMemFreeHost", self._host),
            ("cuMemFree_v2", self._memory),
            ("cuStreamDestroy_v2", [self.stream]),
        ):
            while handles:
                self._call(name, ctypes.c_void_p(handles.pop()))
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _copy(self, name: str, target: int, source: int, num_bytes: int) -> None:
        size = ctypes.c_size_t(num_bytes)
        pointers = ctypes.c_void_p(target), ctypes.c_void_p(source)
        self._call(name, *pointers, size, ctypes.c_void_p(self.stream))

    def _create(self, name: str, *arguments: object) -> int:
        """Call a function that returns a handle through its first argument."""
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _call(self, name: str, *arguments: object) -> None:
        _check(name, getattr(self._library, name)(*arguments))


def _check(name: str, status: int) -> None:
    if status == _OUT_OF_MEMORY:
        raise BackendOutOfMemory("the GPU is out of memory; send a smaller batch")
    if status != 0:
        raise BackendDead(f"the CUDA driver failed in {name} with error {status}; restart the worker")
