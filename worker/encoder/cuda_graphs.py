"""Captures one CUDA graph per token-count bucket, so that a batch needs a single launch."""

import bisect
from dataclasses import dataclass

import torch

from worker.encoder.encoder import Encoder
from worker.models.network import Tensor

_SMALLEST_BUCKET_TOKENS = 256
_GROWTH = 1.25
_TILE_TOKENS = 128


def bucket_sizes(max_tokens: int) -> tuple[int, ...]:
    """Ascending multiples of 128 up to `max_tokens`, each about 1.25 times the previous one."""
    sizes = [max_tokens]
    while sizes[-1] > _SMALLEST_BUCKET_TOKENS:
        smaller = int(sizes[-1] / _GROWTH) // _TILE_TOKENS * _TILE_TOKENS
        sizes.append(max(smaller, _SMALLEST_BUCKET_TOKENS))
    return tuple(reversed(sizes))


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    graph: torch.cuda.CUDAGraph
    vectors: Tensor


class GraphedEncoder:
    """Replays an encoder from CUDA graphs that share inputs and memory: only one may run at a time.

    `inputs` is int32: offsets (max_texts + 1,), then ids, after the indices of the first pooled tokens
    (`num_firsts`, one per text) of a model that leaves prompts out of pooling. The caller fills unused
    offsets and indices with the token count, and unused ids with any valid id.
    """

    def __init__(
        self, encoder: Encoder, *, max_tokens: int, max_texts: int, stream: torch.cuda.Stream
    ) -> None:
        self.sizes = bucket_sizes(max_tokens)
        self._encoder = encoder  # keeps the weights alive: the graphs only contain their addresses
        self._max_texts = max_texts
        self.num_firsts = 0 if encoder.head.include_prompt else max_texts
        device = encoder.network.embeddings.words.device
        num_inputs = self.num_firsts + max_texts + 1 + max_tokens
        self.inputs = torch.zeros(num_inputs, dtype=torch.int32, device=device)
        self._captured: dict[int, _Captured] = {}
        pool = torch.cuda.graph_pool_handle()
        stream.wait_stream(torch.cuda.current_stream(device))  # on which inputs and weights were created
        for size in reversed(self.sizes):  # largest first, so that the others reuse its memory
            self._captured[size] = self._capture(encoder, size, pool, stream)

    def bucket(self, num_tokens: int) -> int:
        """The smallest captured token count of at least `num_tokens`."""
        return self.sizes[bisect.bisect_left(self.sizes, num_tokens)]

    def replay(self, bucket: int) -> Tensor:
        """Compute (texts, dim) from `inputs` on the current stream; valid until the next replay."""
        captured = self._captured[bucket]
        captured.graph.replay()
        return captured.vectors

    def _capture(
        self, encoder: Encoder, size: int, pool: tuple[int, int], stream: torch.cuda.Stream
    ) -> _Captured:
        # At most as many texts as tokens: with CLS pooling the last layer also runs for empty texts.
        num_texts = min(self._max_texts, size)
        firsts = self.inputs[:num_texts] if self.num_firsts else None
        inputs = self.inputs[self.num_firsts :]
        split = self._max_texts + 1
        offsets, ids = inputs[: num_texts + 1], inputs[split : split + size]
        with torch.cuda.stream(stream):
            encoder.vectors(ids, offsets, firsts)  # compiles kernels and allocates library workspaces
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            vectors = encoder.vectors(ids, offsets, firsts)
        return _Captured(graph, vectors)
