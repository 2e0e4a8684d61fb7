"""TensorRT's execution path, over a stand-in with the library's own interface: no GPU takes part."""

import ctypes
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.small_network import (
    VOCABULARY,
    by_the_flat_graph,
    small_architecture,
    small_model,
    small_tokens,
    small_weights,
)

from producer.errors import BackendDead, BackendError, BackendOutOfMemory
from selection.machine.facts import Plan
from worker.backends import LoadOptions
from worker.backends.tensorrt_backend import load_tensorrt
from worker.contract import Backend, Tokens
from worker.engines.builder import build_plan
from worker.engines.cuda_driver import CudaDriver, open_cuda
from worker.engines.plan_file import CachedPlan, plan_path, write_plan
from worker.engines.shapes import shapes_for
from worker.engines.spec import EngineSpec
from worker.graphs.inline import inlined
from worker.graphs.padded.graph import build_padded_graph
from worker.models.model import Model

library = pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
pytestmark = pytest.mark.tensorrt

from support.tensorrt_stand_in import Checked, PlayedDriver, PlayedEngine, played_library  # noqa: E402

MODEL = small_model()
WEIGHTS = small_weights(small_architecture())
SHAPES = shapes_for(40, 320)
PLAN = b"a plan as TensorRT gave it"


@dataclass
class Stage:
    """What a test plays with; `backend` is loaded on first use."""

    plan: CachedPlan
    engine: PlayedEngine
    driver: PlayedDriver
    model: Model = MODEL

    def load(self) -> Backend:
        played = played_library(library, PLAN, self.engine)
        return load_tensorrt(self.model, LoadOptions(plan=self.plan), library=played, cuda=self.driver)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A plan in a cache, and a played GPU that knows it."""
    what = Plan(
        profile_id="p" * 64,
        library="tensorrt_rtx",
        version=library.__version__,
        os="linux",
        cpu_architecture="x86_64",
        level="same-capability",
        capability=(8, 9),
    )
    spec = EngineSpec(plan=what, fingerprint="f", precision="fp32", shapes=SHAPES)
    path = plan_path(tmp_path, spec)
    write_plan(path, spec, PLAN)
    driver = PlayedDriver()
    graph = inlined(build_padded_graph(MODEL, WEIGHTS).graph)
    engine = PlayedEngine(library, graph, SHAPES, driver, MODEL.dim)
    return Stage(plan=CachedPlan(path=path, spec=spec), engine=engine, driver=driver)


def expected(tokens: Tokens) -> Any:
    return by_the_flat_graph(MODEL, WEIGHTS, tokens)


def test_the_limits_are_those_of_the_plan(stage: Stage) -> None:
    """A padded backend, with the texts and tokens it was built for."""
    backend = stage.load()
    assert (backend.padded, backend.dim) == (True, 64)
    assert (backend.max_text_tokens, backend.max_batch_tokens, backend.max_batch_texts) == (40, 320, 10)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_every_text_gets_its_own_vector(stage: Stage, lengths: list[int]) -> None:
    """Whatever the lengths, in the order of the batch."""
    backend = stage.load()
    tokens = small_tokens(*lengths)
    found = backend.collect(backend.launch(tokens))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(tokens), atol=2e-6)


def test_parts_of_texts_are_left_out_of_pooling(stage: Stage) -> None:
    """Where the model asks for it: its plan has one input more, and is not run for a model that does not."""
    head = replace(MODEL.head, poolings=("cls", "mean", "max", "lasttoken"), include_prompt=False)
    model = stage.model = replace(MODEL, head=head)
    graph = inlined(build_padded_graph(model, WEIGHTS).graph)
    stage.engine = PlayedEngine(library, graph, SHAPES, stage.driver, model.dim)
    backend, tokens = stage.load(), small_tokens(40, 1, 7, 16, 2)
    tokens = replace(tokens, num_unpooled=np.array([11, 0, 6, 0, 1], np.int32))
    found = backend.collect(backend.launch(tokens))
    np.testing.assert_allclose(found, by_the_flat_graph(model, WEIGHTS, tokens), atol=2e-6)
    stage.model = MODEL
    with pytest.raises(BackendError, match="does not have the expected inputs"):
        stage.load()


def test_two_batches_in_flight_do_not_meet(stage: Stage) -> None:
    """The second is launched before anything of the first has run."""
    backend = stage.load()
    first, second, third = small_tokens(5, 40, 7), small_tokens(30), small_tokens(1, 2)
    handles = [backend.launch(first), backend.launch(second)]
    with pytest.raises(BackendError, match="2 batches are in flight; collect one"):
        backend.launch(third)
    np.testing.assert_allclose(backend.collect(handles[0]), expected(first), atol=2e-6)
    handles.append(backend.launch(third))
    np.testing.assert_allclose(backend.collect(handles[1]), expected(second), atol=2e-6)
    np.testing.assert_allclose(backend.collect(handles[2]), expected(third), atol=2e-6)


def test_every_bucket_is_captured_at_load_and_the_smallest_that_fits_is_launched(stage: Stage) -> None:
    """Nothing is captured, compiled or allocated once it serves."""
    backend = stage.load()
    num_buckets = sum(len(shape.buckets) for shape in SHAPES)
    assert len(stage.driver._graphs) == num_buckets
    num_blocks = len(stage.driver._blocks)
    backend.collect(backend.launch(small_tokens(9, 33)))
    backend.collect(backend.launch(small_tokens(3, 3, 3)))
    assert stage.engine.sizes_run == [(2, 40), (5, 32)]
    assert stage.driver.num_launches == 2
    assert (len(stage.driver._graphs), len(stage.driver._blocks)) == (num_buckets, num_blocks)


@pytest.mark.parametrize("known_before", [True, False])
def test_what_cannot_be_captured_runs_without_a_graph(stage: Stage, known_before: bool) -> None:
    """And gives the same vectors, whether the library says it or the capture breaks."""
    stage.engine.is_capturable = not known_before
    stage.driver.breaks_captures = not known_before
    backend = stage.load()
    tokens = small_tokens(3, 40)
    np.testing.assert_allclose(backend.collect(backend.launch(tokens)), expected(tokens), atol=2e-6)
    assert stage.driver.num_launches == 0


def test_kernels_compiled_here_are_kept_beside_the_plan(stage: Stage) -> None:
    """For the next boot; those of another GPU are not taken, and replaced."""
    kept = stage.plan.path.with_suffix(".kernels")
    kept.write_bytes(b"of another GPU")
    stage.load()
    assert kept.read_bytes() == b"kernels of this GPU"


def test_the_data_centre_library_compiles_nothing_at_load(stage: Stage) -> None:
    """It has no runtime configuration, and no kernels to keep; the rest is the same."""
    played = played_library(library, PLAN, stage.engine)
    played.__name__ = "tensorrt"
    backend = load_tensorrt(MODEL, LoadOptions(plan=stage.plan), library=played, cuda=stage.driver)
    tokens = small_tokens(3, 40)
    np.testing.assert_allclose(backend.collect(backend.launch(tokens)), expected(tokens), atol=2e-6)
    assert not stage.plan.path.with_suffix(".kernels").exists()


def test_a_plan_of_another_version_ends_in_one_sentence(stage: Stage, tmp_path: Path) -> None:
    """With what the library complained of, and the GPU is given back."""
    write_plan(stage.plan.path, stage.plan.spec, b"a plan of an older version")
    with pytest.raises(
        BackendError,
        match=r"tensorrt_rtx does not load the plan: Version tag .* 239; remove it and run `worker build-en",
    ) as failed:
        stage.load()
    assert "\n" not in str(failed.value)
    assert stage.driver.is_closed


def test_a_truncated_plan_never_reaches_the_library(stage: Stage) -> None:
    """Its own check sum says so first."""
    stage.plan.path.write_bytes(stage.plan.path.read_bytes()[:-3])
    with pytest.raises(BackendError, match="is damaged or incomplete"):
        stage.load()


def test_a_plan_with_other_ends_is_not_run(stage: Stage) -> None:
    """Its output would be read where it is not."""
    stage.engine.output_dim = 32
    with pytest.raises(BackendError, match="does not have the expected inputs, output and shapes"):
        stage.load()


def test_no_room_on_the_gpu_is_out_of_memory(stage: Stage) -> None:
    """At load, so that the next profile is tried."""
    stage.driver._room_bytes = 1000
    with pytest.raises(BackendOutOfMemory):
        stage.load()
    assert stage.driver.is_closed


def test_a_batch_that_fails_leaves_the_backend_whole(stage: Stage) -> None:
    """The next one runs, with two in flight as before."""
    stage.engine.is_capturable = False
    backend = stage.load()
    stage.engine.fails = True
    for _ in range(3):
        with pytest.raises(BackendError, match="cannot compute a batch: Error Code 1: something broke"):
            backend.launch(small_tokens(4))
    stage.engine.fails = False
    tokens = small_tokens(4, 8)
    handles = [backend.launch(tokens), backend.launch(tokens)]
    for handle in handles:
        np.testing.assert_allclose(backend.collect(handle), expected(tokens), atol=2e-6)


def test_batches_beyond_the_limits_are_refused(stage: Stage) -> None:
    """And so is a closed backend; closing twice is fine."""
    backend = stage.load()
    with pytest.raises(BackendError, match="texts of 41 to 41 tokens, but 1 to 40 are allowed"):
        backend.launch(small_tokens(41))
    with pytest.raises(BackendError, match="a batch has 11 texts"):
        backend.launch(small_tokens(*[1] * 11))
    with pytest.raises(BackendError, match="the vocabulary has 50"):
        backend.launch(Tokens(np.array([VOCABULARY], np.int32), np.array([0, 1], np.int32)))
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="is closed"):
        backend.launch(small_tokens(3))


def test_the_stand_in_refuses_what_the_library_does_not_have() -> None:
    """Otherwise it would prove nothing."""

    class Anything:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: True

    context = Checked(library.IExecutionContext, Anything())
    assert context.set_input_shape("ids", (1, 2)) is True
    with pytest.raises(AttributeError):
        context.set_binding_shape(0, (1, 2))
    for wrong in (("ids",), (0, (1, 2)), ("ids", 5), ("ids", (1, 2), 3)):
        with pytest.raises(AssertionError, match="fit none of"):
            context.set_input_shape(*wrong)
    with pytest.raises(AssertionError, match="cannot be set"):
        context.execute_async_v3 = None


def test_without_a_driver_there_is_one_sentence() -> None:
    """As on a machine without a GPU."""
    if _driver_is_here():
        pytest.skip("there is a driver here")
    with pytest.raises(BackendError, match=r"libcuda\.so\.1 does not load"):
        open_cuda()


def _driver_is_here() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


class Library:
    """Answers as libcuda does: 0, or the error a test asks for."""

    def __init__(self, **errors: int) -> None:
        self.errors = errors
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in ("cuMemAlloc_v2", "cuEventCreate", "cuStreamCreate", "cuGraphInstantiateWithFlags"):
                arguments[0]._obj.value = 0x1000 * len(self.calls)
            return self.errors.get(name, 0)

        return call


def driver_of(played: Library) -> CudaDriver:
    return CudaDriver(cast("ctypes.CDLL", played))


def test_the_drivers_errors_are_ours() -> None:
    """Memory is asked for less of; anything else means that the GPU is lost to this process."""
    with pytest.raises(BackendOutOfMemory, match="out of memory"):
        driver_of(Library(cuMemAlloc_v2=2)).allocate(10)
    with pytest.raises(BackendDead, match="cuEventSynchronize with error 700; restart the worker"):
        driver_of(Library(cuEventSynchronize=700)).wait(3)


def test_a_capture_that_breaks_is_no_loss_of_the_gpu() -> None:
    """Other errors there are."""
    assert driver_of(Library(cuStreamEndCapture=901)).end_capture() is None
    with pytest.raises(BackendDead, match="cuStreamEndCapture with error 700"):
        driver_of(Library(cuStreamEndCapture=700)).end_capture()


def test_a_library_without_a_gpu_does_not_start(stage: Stage) -> None:
    """Its binding raises a TypeError then; what it complained of is the reason."""
    played = played_library(library, PLAN, stage.engine)

    def no_runtime(logger: Any) -> None:
        logger.log(library.ILogger.Severity.ERROR, "CUDA initialization failure with error: 100")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    played.Runtime = no_runtime
    with pytest.raises(BackendError, match=r"tensorrt_rtx does not start here: CUDA init.* error: 100"):
        load_tensorrt(MODEL, LoadOptions(plan=stage.plan), library=played, cuda=stage.driver)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda plan: plan, "Cuda Runtime"),
        (lambda plan: plan[: len(plan) // 2], r"plan\.header\.size == blobSize failed"),
        (lambda plan: b"XXXX" + plan[4:], "engine created with incompatible serialization version"),
        (lambda plan: b"too short", "Assertion bufferSize >= minBufferSize failed"),
    ],
    ids=["whole", "truncated", "foreign", "short"],
)
def test_the_real_library_says_what_is_wrong_with_a_real_plan(stage: Stage, change: Any, says: str) -> None:
    """Only the memory is played: a whole plan gets as far as the missing driver, a broken one does not."""
    if _driver_is_here():
        pytest.skip("there is a driver here")
    graph = build_padded_graph(MODEL, WEIGHTS, precision="fp16").graph
    plan = build_plan(graph, stage.plan.spec, library, timing_cache=Path("unused"))
    write_plan(stage.plan.path, stage.plan.spec, change(plan))
    with pytest.raises(BackendError, match=f"tensorrt_rtx does not load the plan: .*{says}") as failed:
        load_tensorrt(MODEL, LoadOptions(plan=stage.plan), library=library, cuda=stage.driver)
    assert "\n" not in str(failed.value)
    assert stage.driver.is_closed


def test_the_driver_gives_everything_back() -> None:
    """What was made is destroyed, the context last."""
    fake = Library()
    driver = driver_of(fake)
    driver.allocate(10)
    driver.event()
    driver.begin_capture()
    driver.end_capture()
    fake.calls.clear()
    driver.close()
    assert fake.calls == [
        "cuCtxSetCurrent",
        "cuStreamSynchronize",
        "cuGraphExecDestroy",
        "cuEventDestroy_v2",
        "cuMemFree_v2",
        "cuStreamDestroy_v2",
        "cuDevicePrimaryCtxRelease_v2",
    ]


def test_the_plan_says_which_library(stage: Stage) -> None:
    """One that is not here is named with its extra."""
    plan = replace(
        stage.plan,
        spec=replace(stage.plan.spec, plan=replace(stage.plan.spec.plan, library="tensorrt")),
    )
    write_plan(plan.path, plan.spec, PLAN)
    with pytest.raises(BackendError, match=r"tensorrt cannot be imported .*install embedmill\[tensorrt\]"):
        load_tensorrt(MODEL, LoadOptions(plan=plan))
