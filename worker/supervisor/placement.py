"""Decides which worker processes a machine runs: one for each usable device, or several on a fast GPU."""

from collections import Counter
from collections.abc import Mapping

import structlog

from selection.machine.facts import Gpu
from worker.settings import Settings
from worker.startup.survey import Survey, choices_by_gpu

log = structlog.stdlib.get_logger(__name__)

Environment = Mapping[str, str]
_SMALL_PARAMETERS = 25_000_000  #: without embeddings: MiniLM has 11 or 21 million, BERT-base 85
_FAST_CAPABILITIES = {(9, 0), (10, 0), (10, 3)}
_MIN_CORES_FOR_TWO = 4


def worker_environments(seen: Survey, settings: Settings, environment: Environment) -> dict[str, Environment]:
    """The environment of each worker process: one or more for each GPU that a profile can use, else one.

    Keys are devices as metrics name them: the GPU's index, `index:n` for its n-th MIG slice, followed by `/k`
    for the k-th of several on one GPU; `cpu`, or `0` for a GPU without a UUID.
    """
    gpus = [one.gpu for one in choices_by_gpu(seen, settings) if one.gpu.uuid and one.serves]
    num_slices: Counter[int] = Counter()
    environments: dict[str, Environment] = {}
    for gpu in gpus:
        name = f"{gpu.index}:{num_slices[gpu.index]}" if gpu.mig_slice else str(gpu.index)
        num_slices[gpu.index] += 1
        variables = {**environment, "CUDA_VISIBLE_DEVICES": gpu.uuid}
        count = _workers_on(gpu, seen, settings, cores=seen.facts.cpu.num_cores // len(gpus))
        environments |= (
            {name: variables} if count == 1 else {f"{name}/{k}": variables for k in range(1, count + 1)}
        )
    selected = seen.choice.selected
    only = "0" if selected is not None and selected.device != "cpu" else "cpu"
    return environments or {only: environment}


def _workers_on(gpu: Gpu, seen: Survey, settings: Settings, *, cores: int) -> int:
    """How many processes to run on it: the setting's number, else one, or two if one could not feed it.

    Because of the GIL a process prepares and answers at most about 66,000 texts/s of 160 tokens; only small
    networks on the largest GPUs compute faster (docs/lab/end-to-end.md).
    """
    if settings.workers_per_gpu is not None:
        return settings.workers_per_gpu
    model = seen.manifest.model
    fast = gpu.capability in _FAST_CAPABILITIES and not gpu.mig_slice
    if not fast or cores < _MIN_CORES_FOR_TWO or model.layers is None or model.hidden is None:
        return 1
    parameters = (
        model.layers * model.hidden * (4 * model.hidden + 2 * (model.intermediate or 4 * model.hidden))
    )
    if parameters > _SMALL_PARAMETERS:
        return 1
    log.info(
        "gpu_shared",
        gpu=gpu.index,
        workers=2,
        reason="one worker process cannot feed it with so small a model; see EMBEDMILL_WORKERS_PER_GPU",
    )
    return 2
