"""Measures the PyTorch encoder on this GPU: tokens/s, texts/s, TFLOP/s and time per kernel, as JSON.

    python -m benchmarks.kernels.encoder --shapes minilm,base,large --means 20,177,500 --output encoder.json

Weights are random: only speed counts. Lengths are log-normal (sigma 0.6), 3 to 512 tokens.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from torch.nn.attention.varlen import varlen_attn

from benchmarks.kernels.encoder_cases import batches, model_of, network, num_flops, random_weights
from worker.backends import LoadOptions, torch_backend
from worker.contract import Tokens
from worker.encoder.encoder import build_encoder
from worker.encoder.kernels.matmul import Matmuls
from worker.encoder.triton_ops import TritonOps
from worker.models.network import AttentionSpec, Flat, Tensor
from worker.models.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the report."""

    shape: str
    precision: str
    mean_tokens: int
    max_batch_tokens: int
    cache: Path


class VarlenOps(TritonOps):
    """Uses torch's built-in attention for variable lengths."""

    def __init__(self, matmuls: Matmuls, *, longest: int) -> None:
        super().__init__(matmuls)
        self._longest = longest

    def attend(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> Tensor:
        """One call for all texts; no tile spans two texts."""
        q, k, v = qkv.view(len(qkv), 3, attention.heads, attention.head_dim).unbind(1)
        offsets, longest = flat.offsets, self._longest
        return varlen_attn(q, k, v, offsets, offsets, longest, longest).flatten(1)


class TiledOps(TritonOps):
    """Uses the Triton attention even where the Hopper attention would be used."""

    def attend(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> Tensor:
        """Without spans, the Hopper attention is not used."""
        return super().attend(qkv, replace(flat, spans=None), attention)


def load(case: Case, weights: Weights) -> torch_backend.TorchBackend:
    """Load the case's backend."""
    options = LoadOptions(
        device="cuda",
        precision=case.precision,
        max_batch_tokens=case.max_batch_tokens,
        cache=case.cache,
    )
    return torch_backend.build_torch_backend(model_of(network(case.shape)), weights, options)


def device_us(case: Case, weights: Weights, attention: str) -> float:
    """Median microseconds of one full batch, in a CUDA graph captured for exactly its texts, without copies.

    `attention` is "ours", "tiles" (Triton's) or "varlen" (torch's own).
    """
    tokens = batches(case.mean_tokens, case.max_batch_tokens, count=1)[0]
    lengths = tokens.lengths
    lengths[-1] += case.max_batch_tokens - lengths.sum()  # so that there is no padding
    offsets = torch.from_numpy(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)).cuda()
    ids = torch.randint(1000, 30_000, (case.max_batch_tokens,), dtype=torch.int32, device="cuda")
    matmuls = Matmuls(case.cache / "autotune")
    if attention == "varlen":
        ops: TritonOps = VarlenOps(matmuls, longest=int(lengths.max()))
    else:
        ops = TiledOps(matmuls) if attention == "tiles" else TritonOps(matmuls)
    device = torch.device("cuda", 0)
    model = model_of(network(case.shape))
    encoder = build_encoder(
        model,
        weights,
        ops=ops,
        device=device,
        precision=case.precision,
        tanh_gelu=True,
    )
    ops.prepare(encoder.network, case.max_batch_tokens)
    encoder.vectors(ids, offsets)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        encoder.vectors(ids, offsets)
    return float(triton.testing.do_bench(graph.replay, warmup=50, rep=300, return_mode="median")) * 1e3


def pass_through(backend: torch_backend.TorchBackend, work: list[Tokens]) -> float:
    """Seconds for all batches, from host memory to host memory, with two in flight."""
    begun = time.perf_counter()
    pending = backend.launch(work[0])
    for tokens in work[1:]:
        next_pending = backend.launch(tokens)
        backend.collect(pending)
        pending = next_pending
    backend.collect(pending)
    return time.perf_counter() - begun


def measure(case: Case, weights: Weights, *, repeats: int = 5, seconds: float = 0.4) -> dict[str, Any]:
    """The median of `repeats` runs of about `seconds` each, and their spread from fastest to slowest."""
    backend = load(case, weights)
    work = batches(case.mean_tokens, backend.max_batch_tokens, count=16)
    once = pass_through(backend, work)
    work = work * max(1, round(seconds / once))
    times = sorted(pass_through(backend, work) for _ in range(repeats))
    backend.close()
    taken = times[repeats // 2]
    num_tokens = sum(len(tokens.ids) for tokens in work)
    flops = sum(num_flops(network(case.shape), tokens.lengths) for tokens in work)
    return {
        "shape": case.shape,
        "precision": case.precision,
        "mean_tokens": case.mean_tokens,
        "max_batch_tokens": case.max_batch_tokens,
        "tokens_per_s": num_tokens / taken,
        "texts_per_s": sum(len(tokens) for tokens in work) / taken,
        "tflops": flops / taken / 1e12,
        "spread": (times[-1] - times[0]) / taken,
    }


def breakdown(case: Case, weights: Weights) -> dict[str, float]:
    """Microseconds per batch by kernel, largest first."""
    backend = load(case, weights)
    work = batches(case.mean_tokens, backend.max_batch_tokens, count=4)
    pass_through(backend, work)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        pass_through(backend, work)
    backend.close()
    rows = {row.key[:70]: row.self_device_time_total / len(work) for row in profile.key_averages()}
    return dict(sorted(rows.items(), key=lambda item: -item[1])[:12])


def matmul_ceiling() -> float:
    """TFLOP/s of a large fp16 matmul on this GPU."""
    size = 8192
    left, right = (torch.randn(size, size, device="cuda").half() for _ in range(2))
    ms: float = triton.testing.do_bench(lambda: left @ right, warmup=100, rep=300, return_mode="median")
    return 2 * size**3 / ms / 1e9


def compare(case: Case, weights: Weights) -> dict[str, Any]:
    """Measure the case from host to host, and on the device alone with each attention kernel."""
    row = measure(case, weights)
    sizes = network(case.shape)
    row["device_us"] = device_us(case, weights, "ours")
    row["tiles_device_us"] = device_us(case, weights, "tiles")
    if case.precision == "fp16" and sizes.heads == sizes.kv_heads:
        row["varlen_device_us"] = device_us(case, weights, "varlen")
    print(json.dumps({key: round(x, 4) if isinstance(x, float) else x for key, x in row.items()}), flush=True)
    return row


def main() -> None:
    """Measure the requested cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="minilm,base,large")
    parser.add_argument("--means", default="20,177,500")
    parser.add_argument("--precisions", default="fp16,bf16,fp8")
    parser.add_argument("--max-batch-tokens", type=int, help="default: as in a worker")
    parser.add_argument("--output", type=Path, default=Path("encoder.json"))
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    report: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "ceiling_tflops": matmul_ceiling(),
        "rows": [],
        "breakdown_us": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for shape in arguments.shapes.split(","):
            weights = random_weights(network(shape))
            for precision in arguments.precisions.split(","):
                cases = [
                    Case(
                        shape=shape,
                        precision=precision,
                        mean_tokens=mean,
                        max_batch_tokens=arguments.max_batch_tokens
                        or torch_backend.gpu_batch_tokens(network(shape).hidden),
                        cache=Path(folder),
                    )
                    for mean in map(int, arguments.means.split(","))
                ]
                report["rows"] += [compare(case, weights) for case in cases]
                report["breakdown_us"][f"{shape} {precision}"] = breakdown(cases[-1], weights)
            arguments.output.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
