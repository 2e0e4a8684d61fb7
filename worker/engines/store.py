"""Finds a profile's TensorRT plan in the cache or builds it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from producer.errors import BackendError
from worker.engines.builder import Progress, build_plan
from worker.engines.calibration import calibrate
from worker.engines.library import open_library
from worker.engines.plan_file import CachedPlan, plan_path, read_plan, write_plan
from worker.engines.spec import EngineSpec
from worker.engines.timing_cache import timing_cache_path
from worker.graphs.builder import Graph
from worker.graphs.padded.graph import build_padded_graph
from worker.models.model import Model
from worker.models.weights import read_weights
from worker.storage.lock import locked
from worker.tokenization.tokenizer import Tokenizer

log = structlog.stdlib.get_logger(__name__)


def find_plan(folder: Path, spec: EngineSpec) -> CachedPlan:
    """The plan in the cache below `folder`. Raises BackendError if none matches the specification."""
    path = plan_path(folder, spec)
    if not _exists(path):
        raise BackendError(
            "no plan in the cache matches these model files, this token budget and this version of "
            "Embedmill; run `worker build-engines`"
        )
    return CachedPlan(path=path, spec=spec)


def ensure_plan(
    folder: Path, spec: EngineSpec, model: Model, tokenizer: Tokenizer, *, progress: Progress | None = None
) -> CachedPlan:
    """The plan in the cache below `folder`, built if missing or damaged; one process builds, others wait.

    Raises BackendError if it cannot be built or written, ModelError if the weights do not match the network.
    """
    path = plan_path(folder, spec)
    with build_lock(path):
        if _is_intact(path, spec):
            if progress is not None:
                progress(1.0)
            return CachedPlan(path=path, spec=spec)
        log.info("plan_build", path=str(path), library=spec.plan.library, version=spec.plan.version)
        started_s = time.perf_counter()
        library = open_library(spec.plan.library)
        timing_cache = timing_cache_path(folder, spec)
        graph = _graph(spec, model, tokenizer)
        plan = build_plan(graph, spec, library, timing_cache=timing_cache, progress=progress)
        write_plan(path, spec, plan)
        if progress is not None:
            progress(1.0)
        seconds = time.perf_counter() - started_s
        log.info("plan_built", path=str(path), mib=round(len(plan) / 2**20), seconds=round(seconds, 1))
        return CachedPlan(path=path, spec=spec, seconds=seconds)


def _exists(path: Path) -> bool:
    return path.is_file() and path.with_suffix(".json").is_file()


def _is_intact(path: Path, spec: EngineSpec) -> bool:
    """True if the plan does not have to be built; a damaged one is logged."""
    if not _exists(path):
        return False
    try:
        read_plan(path, spec.key)
    except BackendError as error:
        log.warning("plan_rebuild", reason=str(error))
        return False
    return True


def _graph(spec: EngineSpec, model: Model, tokenizer: Tokenizer) -> Graph:
    weights = read_weights(model.transformer, model.architecture)
    scales = None
    if spec.precision == "fp8":
        texts = tokenizer.golden_texts()
        scales = calibrate(model, weights, tokenizer.encode(texts, tokenizer.truncate).tokens)
    return build_padded_graph(model, weights, precision=spec.precision, scales=scales).graph


@contextmanager
def build_lock(path: Path) -> Iterator[None]:
    """Hold the lock file next to the plan; waiting for another process's build is logged.

    Raises BackendError if the folder is not writable.
    """
    try:
        lock = locked(path.with_suffix(".lock"), waiting="plan_wait", reason="another process is building it")
    except OSError as error:
        raise BackendError(
            f"no plan can be built in {path.parent} ({error.strerror}); set EMBEDMILL_CACHE_PATH to a "
            "writable folder"
        ) from error
    with lock:
        yield
