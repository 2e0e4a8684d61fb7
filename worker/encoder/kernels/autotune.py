"""Which algorithm of cuBLASLt computes a product fastest here, found once a GPU model and library version.

The library orders its algorithms by a guess, which knows nothing of a GPU at its power limit: what stands
first takes up to a fifth more than the best (docs/encoder.md).
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
from worker.encoder.network import Linear, Rows, Tensor
from worker.storage.lock import locked
from worker.storage.records import read_record, write_record

_WARM_UP_MS = 150.0  #: until the GPU is at its power limit
_FIRST_LOOK_MS, _CLOCK_MS = 5.0, 15.0
_FINALISTS = 5
_ROUNDS = 3

log = structlog.stdlib.get_logger(__name__)

Run = Callable[[], object]
Chosen = dict[MatmulShape, tuple[Matmul, bytes]]


def tuned(
    products: Mapping[MatmulShape, Matmul],
    layers: Mapping[MatmulShape, Linear],
    by_torch: Callable[..., Tensor],
    cache: Path,
) -> Chosen:
    """The products that torch's choice is not the fastest for, each with its fastest algorithm.

    Found anew on the current device, or read from the folder `cache` and kept there. Raises OSError,
    AttributeError or RuntimeError where the library or the memory does not do.
    """
    gpu = torch.cuda.get_device_name().replace(" ", "_")
    path = cache / f"{gpu}-{version()}.json"
    with _lock(path):
        known, started_s = read_record(path, dict[str, Any]) or {}, time.perf_counter()
        found = dict(known)
        for shape, product in products.items():
            if not _is_usable(product, known.get(str(shape))):
                found[str(shape)] = _fastest(product, shape, layers[shape], by_torch).hex()
        if found != known:
            write_record(path, found)
            took_s = time.perf_counter() - started_s
            log.info("products_tuned", path=str(path), products=len(products), took_s=round(took_s, 1))
    algorithms = {shape: bytes.fromhex(found[str(shape)]) for shape in products}
    return {shape: (products[shape], algorithm) for shape, algorithm in algorithms.items() if algorithm}


def fastest(runs: Sequence[Run], clock: Callable[[Run, float], float]) -> int:
    """The index of the run that takes the least time by `clock`, which is given milliseconds to look for.

    All are looked at once; the best of them then take turns, and the median of their rounds decides, so that
    a GPU that slows down is slow for each of them.
    """
    once = [clock(run, _FIRST_LOOK_MS) for run in runs]
    finalists = sorted(range(len(runs)), key=once.__getitem__)[:_FINALISTS]
    rounds = [[clock(runs[index], _CLOCK_MS) for index in finalists] for _ in range(_ROUNDS)]
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return finalists[medians.index(min(medians))]


def _lock(path: Path) -> AbstractContextManager[Any]:
    """Workers that share a GPU would slow each other down while they clock; no folder, no lock."""
    try:
        return locked(path.with_suffix(".lock"), waiting="autotune_wait", reason="another process tunes")
    except OSError:
        return nullcontext()


def _is_usable(product: Matmul, kept: object) -> bool:
    """True for torch's own choice ("") and an algorithm that the library still takes."""
    try:
        return isinstance(kept, str) and (not kept or product.takes(bytes.fromhex(kept)))
    except ValueError:
        return False


def _fastest(product: Matmul, shape: MatmulShape, layer: Linear, by_torch: Callable[..., Tensor]) -> bytes:
    """The best algorithm for random rows; none (b"") if that is torch's choice, or there is none."""
    weight, random = layer.weight, torch.Generator(layer.weight.device).manual_seed(0)
    exact = torch.empty(shape.rows, shape.inner, dtype=torch.bfloat16, device=weight.device)
    x = exact.normal_(generator=random).to(weight.dtype)
    rows = Rows(None, x, layer.unit.size) if layer.unit else Rows(x)
    in_fp8 = layer.quantised and shape.kind == "gelu"
    out = torch.zeros(shape.rows, shape.out, dtype=torch.bfloat16, device=weight.device)
    out = out.to(weight.dtype) if in_fp8 or not layer.quantised else out

    def run_of(algorithm: bytes) -> Run:
        if algorithm:
            return lambda: product.run(algorithm, x, layer, out, layer.unit if in_fp8 else None)
        return lambda: by_torch(shape.kind, rows, layer, out if shape.kind == "add" else None)

    algorithms = product.algorithms()
    if not in_fp8:
        algorithms.insert(0, b"")  # torch has no such product
    if not algorithms:
        return b""
    runs = [run_of(algorithm) for algorithm in algorithms]
    _ms(runs[0], _WARM_UP_MS)
    return algorithms[fastest(runs, _ms)]


def _ms(run: Run, enough_ms: float) -> float:
    """Milliseconds of one run, from as many as take `enough_ms`."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    count = 1
    while True:
        begin.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        taken_ms: float = begin.elapsed_time(end)
        if taken_ms >= enough_ms:
            return taken_ms / count
        count = max(2 * count, round(1.2 * count * enough_ms / max(taken_ms, 1e-3)))
