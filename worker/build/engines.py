"""The plan of a profile: found in the cache, or built and kept there."""

import logging
import time
from pathlib import Path

from producer.contract import Truncate
from producer.errors import BackendError
from worker.build.calibration import calibrate
from worker.build.engine_builder import Progress, build_plan
from worker.build.engine_spec import EngineSpec
from worker.build.onnx_nodes import Graph
from worker.build.padded_graph import build_padded_graph
from worker.build.plan_file import KeptPlan, plan_path, read_plan, write_plan
from worker.build.plan_lock import only_builder
from worker.build.tensorrt_library import open_library
from worker.build.timing_cache import timing_cache_path
from worker.golden_texts import golden_texts
from worker.model import Model
from worker.tokenizer import Tokenizer
from worker.weights import read_weights

log = logging.getLogger(__name__)


def find_plan(folder: Path, spec: EngineSpec) -> KeptPlan:
    """The plan in the cache below `folder`. Raises BackendError if none agrees in everything."""
    path = plan_path(folder, spec)
    if not _is_kept(path):
        raise BackendError(
            "no plan in the cache agrees with these model files, this token budget and this Embedmill; run "
            "`worker build-engines`"
        )
    return KeptPlan(path=path, spec=spec)


def ensure_plan(
    folder: Path, spec: EngineSpec, model: Model, tokenizer: Tokenizer, *, progress: Progress | None = None
) -> KeptPlan:
    """The plan in the cache below `folder`, built if it is not there whole; one process builds, others wait.

    Raises BackendError if it cannot be built or kept, ModelError if the weights do not fit the network.
    """
    path = plan_path(folder, spec)
    with only_builder(path):
        if _is_whole(path, spec):
            if progress is not None:
                progress(1.0)
            return KeptPlan(path=path, spec=spec)
        log.info("plan_build path=%s library=%s %s", path, spec.plan.library, spec.plan.version)
        started_s = time.perf_counter()
        library = open_library(spec.plan.library)
        timing_cache = timing_cache_path(folder, spec)
        graph = _graph(spec, model, tokenizer)
        plan = build_plan(graph, spec, library, timing_cache=timing_cache, progress=progress)
        write_plan(path, spec, plan)
        if progress is not None:
            progress(1.0)
        seconds = time.perf_counter() - started_s
        log.info("plan_built path=%s mib=%.0f seconds=%.1f", path, len(plan) / 2**20, seconds)
        return KeptPlan(path=path, spec=spec, seconds=seconds)


def _is_kept(path: Path) -> bool:
    return path.is_file() and path.with_suffix(".json").is_file()


def _is_whole(path: Path, spec: EngineSpec) -> bool:
    """Whether the plan need not be built; the log says of a damaged one that it is."""
    if not _is_kept(path):
        return False
    try:
        read_plan(path, spec)
    except BackendError as error:
        log.warning("plan_rebuild reason=%s", error)
        return False
    return True


def _graph(spec: EngineSpec, model: Model, tokenizer: Tokenizer) -> Graph:
    weights = read_weights(model.transformer, model.architecture)
    scales = None
    if spec.precision == "fp8":
        texts = golden_texts(model.max_text_tokens)
        scales = calibrate(model, weights, tokenizer.encode(texts, Truncate.END).tokens)
    return build_padded_graph(model, weights, precision=spec.precision, scales=scales).graph
