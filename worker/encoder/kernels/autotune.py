"""Finds the fastest cuBLASLt algorithm for each matmul, once per GPU model and library version.

The library's heuristic does not model a GPU at its power limit: its first choice takes up to a fifth longer
than the best one (docs/lab/encoder.md).
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import structlog
import torch

from worker.encoder.kernels.cublaslt import Matmul, MatmulShape, version
from worker.models.network import Linear, Rows, Tensor
from worker.storage.lock import locked
from worker.storage.records import read_record, write_record

_WARM_UP_MS = 150.0  #: brings the GPU to its power limit
_SCREENING_MS, _ROUND_MS = 5.0, 15.0
_FINALISTS = 5
_ROUNDS = 3

log = structlog.stdlib.get_logger(__name__)

Run = Callable[[], object]
Chosen = dict[MatmulShape, tuple[Matmul, bytes]]


def autotune(
    matmuls: Mapping[MatmulShape, Matmul],
    layers: Mapping[MatmulShape, Linear],
    torch_matmul: Callable[..., Tensor],
    cache: Path,
) -> Chosen:
    """The matmuls that cuBLASLt can compute faster than torch, each with its fastest algorithm.

    Measured on the current device and stored in the folder `cache`, or read from it. Raises OSError,
    AttributeError or RuntimeError if the library lacks a function or memory runs out.
    """
    gpu = torch.cuda.get_device_name().replace(" ", "_")
    path = cache / f"{gpu}-{version()}.json"
    with _lock(path):
        known, started_s = read_record(path, dict[str, Any]) or {}, time.perf_counter()
        found = dict(known)
        for shape, matmul in matmuls.items():
            if not _is_usable(matmul, known.get(str(shape))):
                found[str(shape)] = _fastest(matmul, shape, layers[shape], torch_matmul).hex()
        if found != known:
            write_record(path, found)
            took_s = time.perf_counter() - started_s
            log.info("autotuned", path=str(path), matmuls=len(matmuls), took_s=round(took_s, 1))
    algorithms = {shape: bytes.fromhex(found[str(shape)]) for shape in matmuls}
    return {shape: (matmuls[shape], algorithm) for shape, algorithm in algorithms.items() if algorithm}


def fastest(runs: Sequence[Run], clock: Callable[[Run, float], float]) -> int:
    """The index of the fastest run by `clock`, which takes a run and the milliseconds to measure it for.

    All runs are screened once. Rounds of the best are then interleaved and the lowest median wins, so that a
    GPU that slows down affects all of them.
    """
    screened = [clock(run, _SCREENING_MS) for run in runs]
    finalists = sorted(range(len(runs)), key=screened.__getitem__)[:_FINALISTS]
    rounds = [[clock(runs[index], _ROUND_MS) for index in finalists] for _ in range(_ROUNDS)]
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return finalists[medians.index(min(medians))]


def _lock(path: Path) -> AbstractContextManager[Any]:
    """The lock for measuring: workers on one GPU would disturb each other. None if it cannot be created."""
    try:
        return locked(
            path.with_suffix(".lock"), waiting="autotune_wait", reason="another process is autotuning"
        )
    except OSError:
        return nullcontext()


def _is_usable(matmul: Matmul, stored: object) -> bool:
    """True for "" (torch is faster) and for an algorithm that the library still supports."""
    try:
        return isinstance(stored, str) and (not stored or matmul.supports(bytes.fromhex(stored)))
    except ValueError:
        return False


def _fastest(matmul: Matmul, shape: MatmulShape, layer: Linear, torch_matmul: Callable[..., Tensor]) -> bytes:
    """The fastest algorithm for random rows; b"" if torch is faster or no algorithm is supported."""
    weight, random = layer.weight, torch.Generator(layer.weight.device).manual_seed(0)
    exact = torch.empty(shape.rows, shape.inner, dtype=torch.bfloat16, device=weight.device)
    x = exact.normal_(generator=random).to(weight.dtype)
    static_scale = layer.static_scale
    rows = Rows(None, x, static_scale.value) if static_scale else Rows(x)
    in_fp8 = layer.quantised and shape.kind == "gelu"
    out = torch.zeros(shape.rows, shape.out, dtype=torch.bfloat16, device=weight.device)
    out = out.to(weight.dtype) if in_fp8 or not layer.quantised else out

    def run_of(algorithm: bytes) -> Run:
        if algorithm:
            return lambda: matmul.run(algorithm, x, layer, out, static_scale if in_fp8 else None)
        return lambda: torch_matmul(shape.kind, rows, layer, out if shape.kind == "add" else None)

    algorithms = matmul.algorithms()
    if not in_fp8:
        algorithms.insert(0, b"")  # torch cannot compute GELU in fp8
    if not algorithms:
        return b""
    runs = [run_of(algorithm) for algorithm in algorithms]
    _ms(runs[0], _WARM_UP_MS)
    return algorithms[fastest(runs, _ms)]


def _ms(run: Run, min_ms: float) -> float:
    """Milliseconds per run, averaged over as many runs as take at least `min_ms`."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    count = 1
    while True:
        begin.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        elapsed_ms: float = begin.elapsed_time(end)
        if elapsed_ms >= min_ms:
            return elapsed_ms / count
        count = max(2 * count, round(1.2 * count * min_ms / max(elapsed_ms, 1e-3)))
