"""Runs networks that only transformers implements: padded, on CPU or GPU."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from producer.errors import BackendError
from worker.backends.options import LoadOptions
from worker.backends.transformers_network import load_network
from worker.backends.validation import check_batch
from worker.contract import FloatArray, Tokens
from worker.encoder.head_layers import HeadLayers, head_layers, through_head
from worker.encoder.padded_pooling import Padded, pooled
from worker.encoder.torch_errors import torch_errors
from worker.models.model import Model
from worker.models.network import Tensor

# Default budgets in tokens, padding included.
_GPU_BATCH_SLOTS = 16_384
_CPU_BATCH_SLOTS = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class _Launched:
    vectors: Tensor
    done: Any  # torch.cuda.Event, or None on the CPU


class TransformersBackend:
    """See `Backend`: a transformers network with our own head."""

    padded = True

    def __init__(self, network: Any, layers: HeadLayers, model: Model, *, max_batch_tokens: int) -> None:
        self.dim = model.dim
        self.max_text_tokens = model.max_text_tokens
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_texts = max_batch_tokens
        self._vocab_size = model.network.vocab_size
        self._head = model.head
        self._head_layers = layers
        self._network = network
        self._device = network.device
        # Some networks derive positions from the ids that are not padding.
        self._padding_id = _padding_id(network.config.pad_token_id, self._vocab_size)

    def launch(self, tokens: Tokens) -> Any:
        """See `Backend`."""
        if self._network is None:
            raise BackendError("the transformers backend is closed; load it again")
        check_batch(tokens, self, vocab_size=self._vocab_size)
        with torch_errors(), torch.inference_mode(), _on(self._device):
            vectors = self._vectors(tokens)
            if self._device.type == "cpu":
                return _Launched(vectors, None)
            arrived = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
            arrived.copy_(vectors, non_blocking=True)
            done = torch.cuda.Event(blocking=True)
            done.record()
            return _Launched(arrived, done)

    def collect(self, handle: Any) -> FloatArray:
        """See `Backend`."""
        with torch_errors():
            if handle.done is not None:
                handle.done.synchronize()
            vectors: FloatArray = handle.vectors.numpy().copy()
            return vectors

    def close(self) -> None:
        """See `Backend`."""
        if self._network is not None:
            self._network, self._head_layers = None, ()
            if self._device.type == "cuda":
                with torch_errors():
                    torch.cuda.synchronize(self._device)
                    torch.cuda.empty_cache()

    def _vectors(self, tokens: Tokens) -> Tensor:
        starts = (tokens.firsts - tokens.offsets[:-1]).astype(np.int64)
        ids, lengths, starts = (
            self._to_device(array)
            for array in (_padded(tokens, self._padding_id), tokens.lengths.astype(np.int64), starts)
        )
        inside = torch.arange(ids.shape[1], device=self._device)[None, :] < lengths[:, None]
        states = self._network(input_ids=ids, attention_mask=inside.long()).last_hidden_state
        return through_head(self._head_layers, pooled(Padded(states, starts, lengths), self._head.poolings))

    def _to_device(self, array: npt.NDArray[np.int64]) -> Tensor:
        host = torch.from_numpy(array)
        return host if self._device.type == "cpu" else host.pin_memory().to(self._device, non_blocking=True)


def load_transformers(model: Model, options: LoadOptions) -> TransformersBackend:
    """The model in fp32, fp16 or bf16, ready to serve; the device may also be "cuda:<i>".

    Raises BackendError if the device is missing, its memory too small or the precision unsupported, or if
    transformers cannot load the network.
    """
    with torch_errors():
        place = torch.device(options.device)
        if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
            raise BackendError(
                f"PyTorch finds no GPU {place}; install a CUDA build, or choose another device"
            )
        default = _CPU_BATCH_SLOTS if place.type == "cpu" else _GPU_BATCH_SLOTS
        return TransformersBackend(
            load_network(model, place, options.precision),
            head_layers(model.head, place),
            model,
            max_batch_tokens=max(options.max_batch_tokens or default, model.max_text_tokens),
        )


def _padded(tokens: Tokens, padding_id: int) -> npt.NDArray[np.int64]:
    """Ids (n, longest), padded on the right."""
    lengths = tokens.lengths
    ids = np.full((len(lengths), int(lengths.max())), padding_id, dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = tokens.ids
    return ids


def _padding_id(stated: object, vocab_size: int) -> int:
    return stated if type(stated) is int and 0 <= stated < vocab_size else 0


def _on(device: torch.device) -> Any:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
