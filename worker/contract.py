"""The contract of backends: flat tokens in, pooled and normalised vectors out, two batches in flight."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Tokens:
    """Many texts as one array: `ids` int32 (T,), `offsets` int32 (n + 1,).

    Text i is ids[offsets[i]:offsets[i + 1]]: at least one token, special tokens included. `num_unpooled`
    int32 (n,) is how many tokens at its start are attended to but not pooled, always fewer than it has; None
    if all are pooled. Only models that leave prompts out of pooling get any.
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]
    num_unpooled: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Number of tokens of each text, int32 (n,)."""
        return np.diff(self.offsets)

    @property
    def firsts(self) -> npt.NDArray[np.int32]:
        """The index of the first pooled token of each text, int32 (n,)."""
        starts = self.offsets[:-1]
        return starts if self.num_unpooled is None else starts + self.num_unpooled


class Handle(Protocol):
    """A launched batch; opaque to all but its backend."""


class Backend(Protocol):
    """One loaded network on one device, used by a single thread once it is constructed.

    `padded` determines the cost of a batch: longest text x number of texts if true, else the sum of lengths.
    A batch costs at most `max_batch_tokens` and has at most `max_batch_texts` texts, each of at most
    `max_text_tokens` tokens.
    """

    dim: int
    padded: bool
    max_batch_tokens: int
    max_batch_texts: int
    max_text_tokens: int

    def launch(self, tokens: Tokens) -> Handle:
        """Start the batch, and return at once if the device allows it.

        Raises BackendOutOfMemory, BackendDead or BackendError, as may `collect`.
        """

    def collect(self, handle: Handle) -> FloatArray:
        """The batch's vectors, float32 (n, dim), unit length unless the model does not normalise.

        Handles are collected in the order of their launch, each exactly once.
        """

    def close(self) -> None:
        """Free the device; does nothing if it is closed already."""
