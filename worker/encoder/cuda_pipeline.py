"""Overlaps copying in, computing and copying out on one GPU, on separate streams."""

import gc
import math
from dataclasses import dataclass

import torch

from producer.errors import BackendError
from worker.contract import FloatArray, Tokens
from worker.encoder.cuda_graphs import GraphedEncoder
from worker.encoder.encoder import Encoder
from worker.encoder.torch_errors import is_out_of_memory
from worker.encoder.triton_ops import ROWS_MULTIPLE
from worker.models.network import Tensor

_NUM_SLOTS = 3  #: two batches in flight while a third is being filled
_TOKENS_PER_TEXT = 4  #: a batch has room for max_tokens / 4 texts
_SMALLEST_BUDGET_TOKENS = 1024


@dataclass(slots=True, eq=False)
class Slot:
    """Buffers and events of one batch in flight; `num_texts` is 0 while the slot is free."""

    pinned_in: Tensor
    device_in: Tensor
    device_out: Tensor
    pinned_out: Tensor
    arrived: torch.cuda.Event
    computed: torch.cuda.Event
    done: torch.cuda.Event
    num_texts: int = 0


class CudaPipeline:
    """Runs one encoder on one GPU; every graph is captured before the constructor returns.

    `max_tokens` is rounded up to a multiple of 128 and halved until the graphs fit into free memory.
    Raises BackendError if not even the longest text fits.
    """

    def __init__(self, encoder: Encoder, *, dim: int, max_tokens: int, max_text_tokens: int) -> None:
        self._device = encoder.network.embeddings.words.device
        self._copying_in, self._computing, self._copying_out = (
            torch.cuda.Stream(self._device) for _ in range(3)
        )
        self._graphs = self._capture(encoder, max_tokens, max_text_tokens)
        self.max_tokens = self._graphs.sizes[-1]
        self.max_texts = _max_texts(self.max_tokens)
        self._slots = [self._slot(dim) for _ in range(_NUM_SLOTS)]
        self._next = 0
        torch.cuda.synchronize(self._device)  # the buffers are zeroed on another stream

    def start(self, tokens: Tokens) -> Slot:
        """Launch the batch. Raises BackendError if every slot contains a batch that was not collected."""
        slot = self._slots[self._next]
        if slot.num_texts:
            raise BackendError(f"{_NUM_SLOTS} batches are in flight; collect one before the next launch")
        self._next = (self._next + 1) % _NUM_SLOTS
        slot.num_texts = len(tokens)
        try:
            self._send(slot, tokens)
        except BaseException:
            torch.cuda.synchronize(
                self._device
            )  # a copy may still be reading memory that the next batch overwrites
            slot.num_texts = 0
            raise
        return slot

    def finish(self, slot: Slot) -> FloatArray:
        """Wait for the batch and return a copy of its vectors."""
        slot.done.synchronize()
        vectors: FloatArray = slot.pinned_out[: slot.num_texts].numpy().copy()
        slot.num_texts = 0
        return vectors

    def close(self) -> None:
        """Wait for batches in flight and free the memory."""
        if self._slots:
            torch.cuda.synchronize(self._device)
            self._slots.clear()
            del self._graphs
            gc.collect()  # a graph destroyed during a later capture would invalidate that capture
            torch.cuda.empty_cache()

    def _send(self, slot: Slot, tokens: Tokens) -> None:
        num_texts, bucket = len(tokens), self._graphs.bucket(len(tokens.ids))
        used = self._fill(slot, tokens, bucket)
        with torch.cuda.stream(self._copying_in):
            slot.device_in[:used].copy_(slot.pinned_in[:used], non_blocking=True)
            slot.arrived.record()
        with torch.cuda.stream(self._computing):
            self._computing.wait_event(slot.arrived)
            self._graphs.inputs[:used].copy_(slot.device_in[:used])
            slot.device_out[:num_texts].copy_(self._graphs.replay(bucket)[:num_texts])
            slot.computed.record()
        with torch.cuda.stream(self._copying_out):
            self._copying_out.wait_event(slot.computed)
            slot.pinned_out[:num_texts].copy_(slot.device_out[:num_texts], non_blocking=True)
            slot.done.record()

    def _fill(self, slot: Slot, tokens: Tokens, bucket: int) -> int:
        staging = slot.pinned_in.numpy()
        num_firsts, num_tokens = self._graphs.num_firsts, len(tokens.ids)
        if num_firsts:
            staging[: len(tokens)] = tokens.firsts
            staging[len(tokens) : num_firsts] = num_tokens
            staging = staging[num_firsts:]
        split = self.max_texts + 1
        staging[: len(tokens) + 1] = tokens.offsets
        staging[len(tokens) + 1 : split] = num_tokens
        staging[split : split + num_tokens] = tokens.ids
        staging[split + num_tokens : split + bucket] = 0
        return num_firsts + split + bucket

    def _capture(self, encoder: Encoder, max_tokens: int, max_text_tokens: int) -> GraphedEncoder:
        budget = _round_up(max(max_tokens, max_text_tokens))
        smallest = _round_up(max(max_text_tokens, _SMALLEST_BUDGET_TOKENS))
        while True:
            encoder.ops.prepare(encoder.network, budget)
            try:
                return GraphedEncoder(
                    encoder, max_tokens=budget, max_texts=_max_texts(budget), stream=self._computing
                )
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if budget <= smallest:
                    raise BackendError(
                        f"the GPU has too little memory for a batch of {budget} tokens; free memory, or "
                        "choose a smaller model or precision"
                    ) from error
                budget = max(smallest, _round_up(budget // 2))
            torch.cuda.empty_cache()  # outside the handler, whose traceback keeps tensors alive

    def _slot(self, dim: int) -> Slot:
        num_inputs = self._graphs.inputs.numel()
        return Slot(
            pinned_in=torch.zeros(num_inputs, dtype=torch.int32, pin_memory=True),
            device_in=torch.zeros(num_inputs, dtype=torch.int32, device=self._device),
            device_out=torch.zeros(self.max_texts, dim, device=self._device),
            pinned_out=torch.zeros(self.max_texts, dim, pin_memory=True),
            arrived=torch.cuda.Event(),
            computed=torch.cuda.Event(),
            done=torch.cuda.Event(blocking=True),  # the waiting thread sleeps instead of spinning
        )


def _round_up(num_tokens: int) -> int:
    return math.ceil(num_tokens / ROWS_MULTIPLE) * ROWS_MULTIPLE


def _max_texts(max_tokens: int) -> int:
    return _round_up(max_tokens // _TOKENS_PER_TEXT)
