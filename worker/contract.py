"""What a backend is: flat tokens in, pooled normalised vectors out, two batches in flight."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Tokens:
    """Many texts as one array: `ids` int32 (T,), `offsets` int32 (n + 1,).

    Text i is ids[offsets[i]:offsets[i + 1]]. Every text has at least one token; special tokens are included.
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each text, int32 (n,)."""
        return np.diff(self.offsets)


class Handle(Protocol):
    """A batch that was launched; opaque to everybody but its backend."""


class Backend(Protocol):
    """One loaded network on one device. Called from one thread only, after construction.

    `padded` tells what a batch costs: longest x count if True, the sum of lengths if False. A batch never
    costs more than `max_batch_tokens` nor has more than `max_batch_texts` texts or a text longer than
    `max_text_tokens`.
    """

    dim: int
    padded: bool
    max_batch_tokens: int
    max_batch_texts: int
    max_text_tokens: int

    def launch(self, tokens: Tokens) -> Handle:
        """Start the batch and return at once where the device allows it.

        Raises BackendOutOfMemory, BackendDead or BackendError; so may `collect`.
        """

    def collect(self, handle: Handle) -> FloatArray:
        """The batch's vectors, float32 (n, dim), unit length unless the model does not normalise.

        Handles are collected in the order of their launch, each once.
        """

    def close(self) -> None:
        """Free the device; calling it twice is fine."""


Indices = npt.NDArray[np.intp]
