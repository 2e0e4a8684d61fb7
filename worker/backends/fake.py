"""A backend without a network, for tests: vectors that can be computed by hand, failures on request."""

import os
import signal
import threading
import time
from collections.abc import Collection, Mapping
from typing import cast

import numpy as np

from producer.errors import BackendError, BackendOutOfMemory
from worker.backends.options import LoadOptions
from worker.backends.validation import check_batch
from worker.contract import FloatArray, Handle, Tokens
from worker.models.model import Model

_MAX_BATCH_TOKENS = 65_536


class FakeBackend:
    """Token i of a text (from 1) adds i to element `id % dim` of its vector, which is then normalised.

    Tokens that are not pooled add nothing.
    `collect` takes `delay_s`. It raises the error that `failures` maps a token id to, and BackendOutOfMemory
    for a batch of more than `memory_tokens` tokens. A token id in `deadly` kills the process, as a driver or
    the out-of-memory killer would; at one in `hanging` it never returns, as with a lost GPU.
    """

    def __init__(
        self,
        *,
        dim: int,
        max_batch_tokens: int = _MAX_BATCH_TOKENS,
        max_text_tokens: int = 512,
        padded: bool = False,
        failures: Mapping[int, type[BackendError]] | None = None,
        deadly: Collection[int] = (),
        hanging: Collection[int] = (),
        memory_tokens: int | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.dim = dim
        self.padded = padded
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_texts = max_batch_tokens
        self.max_text_tokens = max_text_tokens
        self._failures = failures or {}
        self._deadly = np.array(sorted(deadly), dtype=np.int32)
        self._hanging = np.array(sorted(hanging), dtype=np.int32)
        self._memory_tokens = max_batch_tokens if memory_tokens is None else memory_tokens
        self._delay_s = delay_s
        self._closed = False

    def launch(self, tokens: Tokens) -> Handle:
        """See `Backend`."""
        if self._closed:
            raise BackendError("the backend is closed; load it again")
        check_batch(tokens, self, vocab_size=np.iinfo(np.int32).max)
        return tokens

    def collect(self, handle: Handle) -> FloatArray:
        """See `Backend`."""
        tokens = cast("Tokens", handle)
        time.sleep(self._delay_s)
        if len(self._deadly) and np.isin(self._deadly, tokens.ids).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if len(self._hanging) and np.isin(self._hanging, tokens.ids).any():
            threading.Event().wait()
        if len(tokens.ids) > self._memory_tokens:
            raise BackendOutOfMemory(
                f"{len(tokens.ids)} tokens exceed the memory for {self._memory_tokens}; send a smaller batch"
            )
        for token_id, kind in self._failures.items():
            if token_id in tokens.ids:
                raise kind(f"the fake backend is configured to fail at token id {token_id}")
        return fake_vectors(tokens, self.dim)

    def close(self) -> None:
        """See `Backend`."""
        self._closed = True


def load_fake(model: Model, options: LoadOptions) -> FakeBackend:
    """A fake backend with the model's dimension and limits."""
    return FakeBackend(
        dim=model.dim,
        max_batch_tokens=max(options.max_batch_tokens or _MAX_BATCH_TOKENS, model.max_text_tokens),
        max_text_tokens=model.max_text_tokens,
    )


def fake_vectors(tokens: Tokens, dim: int) -> FloatArray:
    """The vectors that a FakeBackend computes, float32 (n, dim)."""
    texts = np.repeat(np.arange(len(tokens)), tokens.lengths)
    places = np.arange(len(tokens.ids))
    weights = np.where(places < tokens.firsts[texts], 0, places + 1 - tokens.offsets[texts])
    cells = texts * dim + tokens.ids % dim
    sums = np.bincount(cells, weights, minlength=len(tokens) * dim).reshape(-1, dim)
    vectors: FloatArray = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
    return vectors
