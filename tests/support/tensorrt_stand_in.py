"""A stand-in of TensorRT's runtime whose interface is the library's own, and of the driver under it.

Nothing runs TensorRT for RTX without a GPU. So `Checked` takes a class of the real library and lets through
exactly the attributes it has, with the arguments and results that its signatures state; behind them plain
Python plays the engine, computing with ONNX Runtime. What the real library would refuse by its interface is
refused here; what it does with a batch is only played.
"""

import ctypes
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from producer.errors import BackendOutOfMemory
from worker.engines.shapes import Shape

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "typing.SupportsInt": (int,),
    "typing.SupportsFloat": (float, int),
    "tuple": (tuple,),
    "list": (list,),
    "typing_extensions.Buffer": (bytes, bytearray, memoryview),
    "None": (type(None),),
}


class Checked:
    """An object of the real class `kind`, played by `player`: its members, its signatures, nothing else."""

    def __init__(self, kind: type, player: object) -> None:
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_player", player)

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._kind, name)  # AttributeError where the library has no such thing
        played = getattr(self._player, name)
        return played if isinstance(real, property) else _checked(real, played)

    def __setattr__(self, name: str, value: object) -> None:
        real = getattr(self._kind, name)
        assert isinstance(real, property), f"{name} cannot be set"
        assert real.fset is not None, f"{name} cannot be set"
        setattr(self._player, name, value)


def _checked(real: Any, played: Callable[..., Any]) -> Callable[..., Any]:
    signatures = re.findall(r"^(?:\d+\. )?\w+\((self: .*)\) -> (.+)$", real.__doc__, re.MULTILINE)
    assert signatures, f"the library states no signature: {real.__doc__}"

    def call(*arguments: object) -> Any:
        fitting = [result for listed, result in signatures if _fits(arguments, _parameters(listed))]
        assert fitting, f"{arguments} fit none of {signatures}"
        result = played(*arguments)
        assert any(_is_a(result, kind) or result is None for kind in fitting), (result, fitting)
        return result

    return call


def _parameters(listed: str) -> list[tuple[str, bool]]:
    """Type and whether it has a default, of each parameter but self."""
    return [
        (kind.strip(), bool(default))
        for kind, default in re.findall(r"\w+: ([\w.:\[\]]+)( = [^,]+)?", listed)[1:]
    ]


def _fits(arguments: tuple[object, ...], parameters: list[tuple[str, bool]]) -> bool:
    num_needed = sum(not has_default for _, has_default in parameters)
    return num_needed <= len(arguments) <= len(parameters) and all(
        _is_a(argument, kind) for argument, (kind, _) in zip(arguments, parameters, strict=False)
    )


def _is_a(value: object, kind: str) -> bool:
    if kind in _TYPES:
        return type(value) in _TYPES[kind]
    name = re.split(r"[.:]", kind)[-1]  # modules of Python, namespaces of C++
    real = value._kind if isinstance(value, Checked) else type(value)
    return real.__name__ == name or kind.startswith("list[")


class PlayedDriver:
    """Host memory for a GPU's, and a stream that does nothing until somebody waits: see `Cuda`."""

    def __init__(self, *, room_bytes: int = 1 << 30) -> None:
        self.stream = 77
        self.is_closed = False
        self.num_launches = 0
        self.breaks_captures = False
        self._room_bytes = room_bytes
        self._blocks: dict[int, npt.NDArray[np.uint8]] = {}
        self._queue: list[Callable[[], object]] = []
        self._captured: list[Callable[[], object]] | None = None
        self._graphs: list[list[Callable[[], object]]] = []
        self._happened: set[int] = set()
        self._num_events = 0

    def enter(self) -> None:
        assert not self.is_closed

    def allocate(self, num_bytes: int) -> int:
        self._room_bytes -= num_bytes
        if self._room_bytes < 0:
            raise BackendOutOfMemory("the GPU is out of memory; send a smaller batch")
        block = np.full(num_bytes + 256, 0xFF, dtype=np.uint8)  # NaN, and ids of no vocabulary
        address = (block.ctypes.data + 255) // 256 * 256
        self._blocks[address] = block[address - block.ctypes.data :][:num_bytes]
        return address

    def allocate_host(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        return np.full(num_bytes, 0xFF, dtype=np.uint8)

    def memory(self, address: int, num_bytes: int) -> npt.NDArray[np.uint8]:
        block = self._blocks[address]
        assert num_bytes <= len(block), "beyond what was allocated"
        return block[:num_bytes]

    def send(self, step: Callable[[], object]) -> None:
        (self._queue if self._captured is None else self._captured).append(step)

    def copy_in(self, target: int, source: npt.NDArray[np.uint8]) -> None:
        place = self.memory(target, source.nbytes)
        self.send(lambda: ctypes.memmove(place.ctypes.data, source.ctypes.data, source.nbytes))

    def copy_out(self, target: npt.NDArray[np.uint8], source: int) -> None:
        place = self.memory(source, target.nbytes)
        self.send(lambda: ctypes.memmove(target.ctypes.data, place.ctypes.data, target.nbytes))

    def event(self) -> int:
        self._num_events += 1
        return self._num_events

    def record(self, event: int) -> None:
        self._happened.discard(event)
        self.send(lambda: self._happened.add(event))

    def wait(self, event: int) -> None:
        while event not in self._happened:
            self._queue.pop(0)()

    def synchronize(self) -> None:
        assert self._captured is None, "a wait would break the capture"
        while self._queue:
            self._queue.pop(0)()

    def begin_capture(self) -> None:
        self._captured = []

    def end_capture(self) -> int | None:
        assert self._captured, "nothing was captured"
        if self.breaks_captures:
            self._captured = None
            return None
        self._graphs.append(self._captured)
        self._captured = None
        return len(self._graphs) - 1

    def launch(self, graph: int) -> None:
        self.num_launches += 1
        self._queue.extend(self._graphs[graph])

    def close(self) -> None:
        self.synchronize()
        self.is_closed = True


class PlayedContext:
    """One execution context; what a graph was captured from may not be changed any more."""

    def __init__(self, engine: "PlayedEngine") -> None:
        self._engine = engine
        self._profile: int | None = None
        self._inputs: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._has_scratch = False
        self._num_runs = 0

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= self._engine.scratch_bytes
        self._engine.driver.memory(memory, size)
        self._has_scratch = True

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return 0 <= profile < len(self._engine.shapes)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self._num_runs < 2, "a captured context was changed"
        limit = self._engine.shapes[self._profile or 0]
        fits = 1 <= shape[0] <= limit.max_texts and shape[1:] in ((), (limit.num_tokens,))
        self._inputs[name] = shape
        return self._profile is not None and fits

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return name in self._engine.names

    def is_stream_capturable(self, stream: int) -> bool:
        return self._engine.is_capturable

    def execute_async_v3(self, stream: int) -> bool:
        assert self._has_scratch
        assert stream == self._engine.driver.stream
        if self._engine.fails:
            self._engine.complain("Error Code 1: something broke")
            return False
        self._num_runs += 1
        driver = self._engine.driver
        places = {
            name: driver.memory(self._addresses[name], 4 * int(np.prod(shape)))
            for name, shape in self._inputs.items()
        }
        num_texts = self._inputs["ids"][0]
        output = driver.memory(self._addresses["vectors"], 4 * num_texts * self._engine.dim)

        def run() -> None:
            inputs = {
                name: place.view(np.int32).reshape(self._inputs[name]) for name, place in places.items()
            }
            if inputs["ids"].min() < 0:
                return  # the run before the capture, over memory that nobody wrote
            found = self._engine.session.run(["vectors"], inputs)[0]
            self._engine.sizes_run.append(inputs["ids"].shape)
            output[:] = found.reshape(-1).view(np.uint8)

        driver.send(run)
        return True


class PlayedEngine:
    """An engine of the graph of worker/graphs/padded/graph.py."""

    scratch_bytes = 4096

    def __init__(
        self, library: Any, graph: bytes, shapes: tuple[Shape, ...], driver: PlayedDriver, dim: int
    ) -> None:
        self._library = library
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.shapes = shapes
        self.driver = driver
        self.dim = dim
        self.is_capturable = True
        self.fails = False
        self.output_dim = dim
        self.sizes_run: list[tuple[int, ...]] = []
        self.complain: Callable[[str], None] = lambda _: None
        self.names: list[str] = [
            each.name for each in (*self.session.get_inputs(), *self.session.get_outputs())
        ]
        self.num_io_tensors = len(self.names)
        self.num_optimization_profiles = len(shapes)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return self._library.DataType.FLOAT if name == "vectors" else self._library.DataType.INT32

    def get_tensor_shape(self, name: str) -> Any:
        assert name == "vectors"
        return self._library.Dims((-1, self.output_dim))

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Any]:
        shape = self.shapes[profile]
        texts = (1, shape.max_texts, shape.max_texts)
        return [self._library.Dims((count, shape.num_tokens)) for count in texts]

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return self.scratch_bytes - profile

    def create_runtime_config(self) -> Checked:
        return Checked(self._library.IRuntimeConfig, PlayedConfig(self._library))

    def create_execution_context(self, how: Any) -> Checked:
        strategy = how._player.strategy if isinstance(how, Checked) else how
        assert strategy == self._library.ExecutionContextAllocationStrategy.USER_MANAGED
        return Checked(self._library.IExecutionContext, PlayedContext(self))


class PlayedConfig:
    """A runtime configuration."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.strategy: Any = None
        self.dynamic_shapes_kernel_specialization_strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> Checked:
        return Checked(self._library.IRuntimeCache, PlayedCache())

    def set_runtime_cache(self, cache: Checked) -> bool:
        return True


class IHostMemory(bytes):
    """What the library hands out where it has made bytes."""


class PlayedCache:
    """Kernels compiled where they run."""

    content = b"kernels of this GPU"

    def deserialize(self, blob: bytes) -> bool:
        return blob == self.content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self.content)


class PlayedRuntime:
    """Loads the one plan it knows, and complains of any other as the library does."""

    def __init__(self, plan: bytes, engine: PlayedEngine, logger: Any, library: Any) -> None:
        self._plan = plan
        self._engine = engine
        severity = library.ILogger.Severity.ERROR
        engine.complain = lambda text: logger.log(severity, text)

    def deserialize_cuda_engine(self, plan: memoryview) -> Checked | None:
        if bytes(plan) != self._plan:
            self._engine.complain("Version tag does not match.\n Note: Current Version: 237, other: 239")
            return None
        return Checked(self._engine._library.ICudaEngine, self._engine)


def played_library(library: Any, plan: bytes, engine: PlayedEngine) -> SimpleNamespace:
    """The module with its own enums and logger, and a runtime that is played."""
    own = {name: getattr(library, name) for name in dir(library) if name != "Runtime"}
    return SimpleNamespace(
        **own | {"__name__": library.__name__},
        Runtime=lambda logger: Checked(library.Runtime, PlayedRuntime(plan, engine, logger, library)),
    )
