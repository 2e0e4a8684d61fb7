"""PyTorch as a backend: our unpadded encoder, run from CUDA graphs on a GPU and eagerly on the CPU."""

from typing import Any, Protocol

import numpy as np
import torch

from producer.errors import BackendError
from worker.backends.options import LoadOptions
from worker.backends.validation import check_batch
from worker.contract import FloatArray, Tokens
from worker.encoder.encoder import Encoder, build_encoder
from worker.encoder.forward import Ops
from worker.encoder.torch_errors import torch_errors
from worker.encoder.torch_ops import TorchOps
from worker.models.model import Model
from worker.models.weights import Weights, read_weights

_GPU_BATCH_TOKENS = 67_584  # fills the 132 multiprocessors of an H100 evenly
_CPU_BATCH_TOKENS = 4_096
_SMALL_HIDDEN = 768


class Pipeline(Protocol):
    """Computes batches on one device; they are finished in the order in which they were started."""

    max_tokens: int
    max_texts: int

    def start(self, tokens: Tokens) -> Any:
        """Start a batch."""

    def finish(self, ticket: Any) -> FloatArray:
        """Wait for what `start` returned."""

    def close(self) -> None:
        """Free the device."""


class TorchBackend:
    """See `Backend`: unpadded, on a `Pipeline`."""

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
        """See `Backend`."""
        if not self._open:
            raise BackendError("the torch backend is closed; load it again")
        check_batch(tokens, self, vocab_size=self._vocab_size)
        with torch_errors():
            return self._pipeline.start(tokens)

    def collect(self, handle: Any) -> FloatArray:
        """See `Backend`."""
        with torch_errors():
            return self._pipeline.finish(handle)

    def close(self) -> None:
        """Free the device; a second call has no effect."""
        if self._open:
            self._open = False
            with torch_errors():
                self._pipeline.close()


class HostPipeline:
    """Computes each batch in `start`, on the calling thread."""

    def __init__(self, encoder: Encoder, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.max_texts = max_tokens
        self._encoder = encoder

    def start(self, tokens: Tokens) -> FloatArray:
        """The vectors themselves."""
        arrays = tokens.ids, tokens.offsets, tokens.firsts
        ids, offsets, firsts = (torch.from_numpy(np.array(array)) for array in arrays)
        vectors: FloatArray = self._encoder.vectors(ids, offsets, firsts).numpy()
        return vectors

    def finish(self, ticket: FloatArray) -> FloatArray:
        """What `start` computed."""
        return ticket

    def close(self) -> None:
        """Nothing to free."""


def gpu_batch_tokens(hidden: int) -> int:
    """Default tokens per batch on a GPU; only small networks gain, 1 to 2 %, from twice as many."""
    return 2 * _GPU_BATCH_TOKENS if hidden <= _SMALL_HIDDEN else _GPU_BATCH_TOKENS


def load_torch(model: Model, options: LoadOptions) -> TorchBackend:
    """The model with its weights; see `build_torch_backend`. Raises ModelError if they do not match."""
    return build_torch_backend(model, read_weights(model.transformer, model.architecture), options)


def build_torch_backend(model: Model, weights: Weights, options: LoadOptions) -> TorchBackend:
    """The network with these weights, ready to serve: nothing is compiled or captured afterwards.

    The device may also be "cuda:<i>"; `precision` is fp32, fp16, bf16 or fp8. The token budget may be
    smaller than `max_batch_tokens` on a GPU with little memory. With a `cache` folder the matmuls are
    autotuned and the results stored there. Raises BackendError if the device is missing, its memory too small
    or the precision unsupported there; BackendDead if the device is lost.
    """
    precision = options.precision
    with torch_errors():
        place = torch.device(options.device)
        on_gpu = place.type == "cuda"
        ops = _gpu_ops(model, place, options) if on_gpu else TorchOps()
        encoder = build_encoder(
            model,
            weights,
            ops=ops,
            device=place,
            precision=precision,
            keep_16bit=options.keep_16bit,
            tanh_gelu=on_gpu and precision != "fp32",  # there GELU is fused into the matmul
        )
        default = gpu_batch_tokens(model.architecture.hidden) if on_gpu else _CPU_BATCH_TOKENS
        budget = max(options.max_batch_tokens or default, model.max_text_tokens)
        pipeline = _gpu_pipeline(encoder, model, budget) if on_gpu else HostPipeline(encoder, budget)
    return TorchBackend(pipeline, model)


def _gpu_ops(model: Model, place: torch.device, options: LoadOptions) -> Ops:
    precision, cache = options.precision, options.cache
    if (place.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"PyTorch finds no GPU {place}; install a CUDA build, or choose another device")
    from worker.encoder.kernels.matmul import Matmuls
    from worker.encoder.triton_ops import HEAD_DIMS, TritonOps

    capability = torch.cuda.get_device_capability(place)
    if capability < ((8, 9) if precision == "fp8" else (8, 0)):
        raise BackendError(
            f"{precision} needs a newer GPU than compute capability {capability[0]}.{capability[1]}; "
            "choose another profile"
        )
    if model.architecture.layers and model.architecture.head_dim not in HEAD_DIMS:
        raise BackendError(
            f"the model's head dimension is {model.architecture.head_dim}; our kernels support "
            f"{HEAD_DIMS}; choose an onnx profile"
        )
    return TritonOps(Matmuls(cache and cache / "matmul"))


def _gpu_pipeline(encoder: Encoder, model: Model, budget: int) -> Pipeline:
    from worker.encoder.cuda_pipeline import CudaPipeline

    return CudaPipeline(encoder, dim=model.dim, max_tokens=budget, max_text_tokens=model.max_text_tokens)
