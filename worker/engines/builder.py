"""Builds a TensorRT plan from an ONNX graph, with the Python API that both libraries share."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from producer.errors import BackendError
from worker.engines.library import create, error_logger, first_error
from worker.engines.shapes import Shape
from worker.engines.spec import EngineSpec
from worker.engines.timing_cache import load_timing_cache, save_timing_cache
from worker.graphs.builder import Graph
from worker.graphs.inline import inlined

#: Called with the completed fraction of the build, 0 to 1; an exception aborts the build.
Progress = Callable[[float], None]


def build_plan(
    graph: Graph, spec: EngineSpec, library: Any, *, timing_cache: Path, progress: Progress | None = None
) -> bytes:
    """The serialised plan of a graph with the inputs of worker/graphs/padded/graph.py.

    `library` is the module; the plan is for GPUs of the spec's capability. `tensorrt` must run on such a GPU,
    `tensorrt_rtx` needs none. Raises BackendError with the reason that TensorRT logged.
    """
    logger = error_logger(library)
    builder = create(library, "Builder", logger)
    network = builder.create_network(_strongly_typed(library))
    config = builder.create_builder_config()
    parser = library.OnnxParser(network, logger)  # keeps the weights alive during the build
    if not _parsed(parser, graph):
        errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        reason = " ".join(errors.split())
        raise BackendError(f"{spec.plan.library} does not accept the graph: {reason:.300}")
    for shape in spec.shapes:
        config.add_optimization_profile(_optimization_profile(builder, network, shape))
    _set_target(config, spec, library)
    monitor = _progress_monitor(library, progress or _ignore)  # must outlive the build
    config.progress_monitor = monitor
    if spec.plan.library == "tensorrt":  # deprecated and without effect in RTX
        load_timing_cache(config, timing_cache)
    with _abort_on_interrupt(monitor):
        plan = builder.build_serialized_network(network, config)
    if monitor.interrupt is not None:
        raise monitor.interrupt
    if plan is None:
        raise BackendError(f"{spec.plan.library} could not build the plan: {first_error(logger)}")
    if spec.plan.library == "tensorrt":
        save_timing_cache(config, timing_cache)
    return bytes(plan)


def _parsed(parser: Any, graph: Graph) -> bool:
    """False if the parser reports errors. Older parsers need the weights inside the graph, up to 2 GiB."""
    if not hasattr(parser, "load_initializer"):
        return bool(parser.parse(inlined(graph)))
    return bool(
        parser.load_model_proto(graph.proto)
        and all(
            parser.load_initializer(name, tensor.ctypes.data, tensor.nbytes)
            for name, tensor in graph.tensors.items()
        )
        and parser.parse_model_proto()
    )


def _strongly_typed(library: Any) -> int:
    """The flag for TensorRT 10; version 11 has no other mode and may drop the flag."""
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _optimization_profile(builder: Any, network: Any, shape: Shape) -> Any:
    profile = builder.create_optimization_profile()
    one, full = (1, shape.num_tokens), (shape.max_texts, shape.num_tokens)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        dims = len(tensor.shape)  # (texts, tokens) or (texts,)
        profile.set_shape(tensor.name, one[:dims], full[:dims], full[:dims])
    return profile


def _set_target(config: Any, spec: EngineSpec, library: Any) -> None:
    """Set the GPUs that the plan is built for."""
    plan = spec.plan
    if plan.library == "tensorrt_rtx":
        name = "SM{}{}".format(*plan.capability)
        target = getattr(library.ComputeCapability, name, None)
        config.num_compute_capabilities = 1
        if target is None or not config.set_compute_capability(target, 0):
            raise BackendError(
                f"{plan.library} {plan.version} cannot build for compute capability "
                "{}.{}; choose another backend there".format(*plan.capability)
            )
    elif plan.level == "same-capability":
        level = getattr(library.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY", None)
        if level is None:
            raise BackendError(
                f"{plan.library} {plan.version} builds for one GPU model only; install a newer version, or "
                "choose a profile that names the GPU"
            )
        config.hardware_compatibility_level = level


def _ignore(fraction: float) -> None:
    """The progress callback of builds that report none; they can still be interrupted."""


@contextmanager
def _abort_on_interrupt(monitor: Any) -> Iterator[None]:
    """Let Ctrl-C abort the build at its next step: an exception raised inside TensorRT would be lost."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def note(*_: object) -> None:
        monitor.interrupt = KeyboardInterrupt()

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _progress_monitor(library: Any, progress: Progress) -> Any:
    """A progress monitor that reports nested phases as one fraction and aborts the build on an exception."""

    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.interrupt: BaseException | None = None
            self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, done
            self._reported = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._note(phase_name, (parent_phase, num_steps, 0))

        def phase_finish(self, phase_name: str) -> None:
            self._note(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            parent, num_steps, _ = self._phases.get(phase_name, (None, 1, 0))
            self._note(phase_name, (parent, num_steps, step + 1))
            return self.interrupt is None

        def _note(self, phase_name: str, phase: tuple[str | None, int, int] | None) -> None:
            # TensorRT calls this method, so exceptions must not leave it.
            try:
                if phase is None:
                    self._phases.pop(phase_name, None)
                else:
                    self._phases[phase_name] = phase
                    # A phase may restart, or report its number of steps after completing some.
                    self._reported = max(self._reported, min(1.0, self._fraction(phase_name)))
                    progress(self._reported)
            except BaseException as error:
                self.interrupt = error

        def _fraction(self, phase_name: str) -> float:
            parent, num_steps, done = self._phases[phase_name]
            fraction = done / max(num_steps, 1)
            while parent in self._phases:
                parent, num_steps, done = self._phases[parent]
                fraction = (done + fraction) / max(num_steps, 1)
            return fraction

    return Monitor()
