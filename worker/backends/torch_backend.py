"""PyTorch as a backend: our own unpadded encoder, on a CUDA GPU from captured graphs, on the CPU as it is."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from producer.errors import BackendError
from worker.backends.validation import check_batch
from worker.contract import FloatArray, Tokens
from worker.encoder.encoder import Encoder, build_encoder
from worker.encoder.forward import Ops
from worker.encoder.torch_errors import torch_errors
from worker.encoder.torch_ops import TorchOps
from worker.models.model import Model
from worker.models.weights import Weights

GPU_BATCH_TOKENS = 67_584  #: fills an H100's 132 processors evenly
CPU_BATCH_TOKENS = 4_096
_SMALL_HIDDEN = 768


class Pipeline(Protocol):
    """How batches pass through one device."""

    max_tokens: int
    max_texts: int

    def start(self, tokens: Tokens) -> Any:
        """Send a batch on its way."""

    def finish(self, ticket: Any) -> FloatArray:
        """Wait for what `start` returned."""

    def close(self) -> None:
        """Free the device."""


class TorchBackend:
    """The contract's backend over a pipeline; unpadded."""

    padded = False

    def __init__(self, pipeline: Pipeline, model: Model) -> None:
        self.dim = model.dim
        self.max_text_tokens = model.max_text_tokens
        self.max_batch_tokens = pipeline.max_tokens
        self.max_batch_texts = pipeline.max_texts
        self._vocab_size = model.architecture.vocab_size
        self._pipeline = pipeline
        self._open = True

    def launch(self, tokens: Tokens) -> Any:
        """Start the batch. Raises BackendError if it breaks the limits; see the contract for others."""
        if not self._open:
            raise BackendError("the torch backend is closed; load another one")
        check_batch(tokens, self, vocab_size=self._vocab_size)
        with torch_errors():
            return self._pipeline.start(tokens)

    def collect(self, handle: Any) -> FloatArray:
        """The batch's vectors, float32 (n, dim)."""
        with torch_errors():
            return self._pipeline.finish(handle)

    def close(self) -> None:
        """Free the device; calling it twice is fine."""
        if self._open:
            self._open = False
            with torch_errors():
                self._pipeline.close()


class HostPipeline:
    """The CPU computes where it is called; nothing is in flight."""

    def __init__(self, encoder: Encoder, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.max_texts = max_tokens
        self._encoder = encoder

    def start(self, tokens: Tokens) -> FloatArray:
        """The vectors themselves."""
        ids, offsets = (torch.from_numpy(np.array(array)) for array in (tokens.ids, tokens.offsets))
        vectors: FloatArray = self._encoder.vectors(ids, offsets).numpy()
        return vectors

    def finish(self, ticket: FloatArray) -> FloatArray:
        """What `start` computed."""
        return ticket

    def close(self) -> None:
        """Nothing is held."""


def gpu_batch_tokens(hidden: int) -> int:
    """Tokens a batch where nobody says: small networks gain 1 to 2 % by twice as many, others nothing."""
    return 2 * GPU_BATCH_TOKENS if hidden <= _SMALL_HIDDEN else GPU_BATCH_TOKENS


def load(
    model: Model,
    weights: Weights,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    max_batch_tokens: int | None = None,
    keep_16bit: Iterable[str] = (),
    cache: Path | None = None,
) -> TorchBackend:
    """The model on `device` ("cpu", "cuda" or "cuda:<i>"), ready: nothing is compiled or captured later.

    `precision` is fp32, fp16, bf16 or fp8; with fp8 `keep_16bit` names layers that stay bf16. The budget
    `max_batch_tokens` may come out smaller on a GPU with little memory. With a folder `cache` the fastest
    products are looked for, and kept there. Raises BackendError if the device, the precision or the memory
    does not do; BackendDead if the device is lost.
    """
    with torch_errors():
        place = torch.device(device)
        on_gpu = place.type == "cuda"
        ops = _gpu_ops(model, place, precision, cache) if on_gpu else TorchOps()
        encoder = build_encoder(
            model,
            weights,
            ops=ops,
            device=place,
            precision=precision,
            keep_16bit=keep_16bit,
            tanh_gelu=on_gpu and precision != "fp32",  # a part of the product there
        )
        default = gpu_batch_tokens(model.architecture.hidden) if on_gpu else CPU_BATCH_TOKENS
        budget = max(max_batch_tokens or default, model.max_text_tokens)
        pipeline = _gpu_pipeline(encoder, model, budget) if on_gpu else HostPipeline(encoder, budget)
    return TorchBackend(pipeline, model)


def _gpu_ops(model: Model, place: torch.device, precision: str, cache: Path | None) -> Ops:
    if (place.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"PyTorch finds no GPU {place}; install a CUDA build, or choose another device")
    from worker.encoder.kernels.matmul import Matmuls
    from worker.encoder.triton_ops import HEAD_DIMS, TritonOps

    capability = torch.cuda.get_device_capability(place)
    if capability < ((8, 9) if precision == "fp8" else (8, 0)):
        raise BackendError(
            f"{precision} needs a newer GPU than one of compute capability {capability[0]}.{capability[1]}; "
            "choose another profile"
        )
    if model.architecture.head_dim not in HEAD_DIMS:
        raise BackendError(
            f"the model has heads of {model.architecture.head_dim} units, our kernels do {HEAD_DIMS}; "
            "choose an onnx profile"
        )
    return TritonOps(Matmuls(cache and cache / "autotune"))


def _gpu_pipeline(encoder: Encoder, model: Model, budget: int) -> Pipeline:
    from worker.encoder.cuda_pipeline import CudaPipeline

    return CudaPipeline(encoder, dim=model.dim, max_tokens=budget, max_text_tokens=model.max_text_tokens)
