"""The few calls of the CUDA driver that run a plan: through ctypes, for libcuda comes with every driver."""

import ctypes
from typing import Protocol

import numpy as np
import numpy.typing as npt

from producer.errors import BackendDead, BackendError, BackendOutOfMemory

Bytes = npt.NDArray[np.uint8]

_OUT_OF_MEMORY = 2
_NOT_CAPTURED = range(900, 909)  # errors of the capture, not of the GPU
_NON_BLOCKING = 1  # of streams: does not wait for the legacy default stream
_NO_TIMING = 2  # of events
_THREAD_LOCAL = 1  # of captures: other threads may go on calling CUDA


class Cuda(Protocol):
    """One GPU's memory, stream, events and graphs; handles are integers.

    Every call raises BackendOutOfMemory or BackendDead for what the driver answers.
    """

    stream: int

    def enter(self) -> None:
        """Make the GPU current in this thread; the first call of each thread."""

    def allocate(self, num_bytes: int) -> int:
        """Memory of the GPU, aligned to 256 bytes."""

    def allocate_host(self, num_bytes: int) -> Bytes:
        """Memory of the host that the GPU copies from and to while the host goes on."""

    def copy_in(self, target: int, source: Bytes) -> None:
        """Copy host memory to the GPU, in the order of the stream."""

    def copy_out(self, target: Bytes, source: int) -> None:
        """Copy memory of the GPU to the host, in the order of the stream."""

    def event(self) -> int:
        """A new event."""

    def record(self, event: int) -> None:
        """Let the event happen once the stream has come so far."""

    def wait(self, event: int) -> None:
        """Until the event has happened."""

    def synchronize(self) -> None:
        """Until the stream has nothing left to do."""

    def begin_capture(self) -> None:
        """Collect what is sent to the stream instead of running it."""

    def end_capture(self) -> int | None:
        """What was collected, ready to be launched; None if some of it cannot be captured."""

    def launch(self, graph: int) -> None:
        """Run a graph in the order of the stream."""

    def close(self) -> None:
        """Free everything."""


def open_cuda() -> "CudaDriver":
    """The first GPU that this process sees. Raises BackendError where there is no driver or no GPU."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BackendError(f"the NVIDIA driver's libcuda.so.1 does not load ({error!s:.120})") from error
    return CudaDriver(library)


class CudaDriver:
    """See `Cuda`. Shares the context that TensorRT's own runtime calls use."""

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
        self.stream = self._made("cuStreamCreate", ctypes.c_uint(_NON_BLOCKING))

    def enter(self) -> None:
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, num_bytes: int) -> int:
        self._memory.append(self._made("cuMemAlloc_v2", ctypes.c_size_t(num_bytes)))
        return self._memory[-1]

    def allocate_host(self, num_bytes: int) -> Bytes:
        address = self._made("cuMemHostAlloc", ctypes.c_size_t(num_bytes), ctypes.c_uint(0))
        self._host.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * num_bytes).from_address(address))

    def copy_in(self, target: int, source: Bytes) -> None:
        self._copy("cuMemcpyHtoDAsync_v2", target, source.ctypes.data, source.nbytes)

    def copy_out(self, target: Bytes, source: int) -> None:
        self._copy("cuMemcpyDtoHAsync_v2", target.ctypes.data, source, target.nbytes)

    def event(self) -> int:
        self._events.append(self._made("cuEventCreate", ctypes.c_uint(_NO_TIMING)))
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
        if status in _NOT_CAPTURED:
            return None
        _check("cuStreamEndCapture", status)
        ready = self._made("cuGraphInstantiateWithFlags", captured, ctypes.c_ulonglong(0))
        self._call("cuGraphDestroy", captured)
        self._graphs.append(ready)
        return ready

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

    def _made(self, name: str, *arguments: object) -> int:
        """What a call puts where its first argument points."""
        made = ctypes.c_void_p()
        self._call(name, ctypes.byref(made), *arguments)
        return made.value or 0

    def _call(self, name: str, *arguments: object) -> None:
        _check(name, getattr(self._library, name)(*arguments))


def _check(name: str, status: int) -> None:
    if status == _OUT_OF_MEMORY:
        raise BackendOutOfMemory("the GPU is out of memory; send a smaller batch")
    if status != 0:
        raise BackendDead(f"the CUDA driver answered {name} with error {status}; restart the worker")
