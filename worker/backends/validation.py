"""Checks a batch against the contract before a backend computes it."""

import numpy as np

from producer.errors import BackendError
from worker.contract import Backend, Tokens


def check_batch(tokens: Tokens, backend: Backend, *, vocab_size: int) -> None:
    """Raise BackendError unless the batch is well formed, within the backend's limits and the vocabulary."""
    ids, offsets = tokens.ids, tokens.offsets
    if ids.ndim != 1 or offsets.ndim != 1 or ids.dtype != np.int32 or offsets.dtype != np.int32:
        raise BackendError(
            f"a batch needs int32 ids (T,) and offsets (n + 1,), got {ids.dtype} {ids.shape} and "
            f"{offsets.dtype} {offsets.shape}"
        )
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(ids):
        raise BackendError(f"a batch's offsets must run from 0 to its number of tokens, {len(ids)}")
    lengths = tokens.lengths
    if lengths.min() < 1 or lengths.max() > backend.max_text_tokens:
        raise BackendError(
            f"a batch has texts of {lengths.min()} to {lengths.max()} tokens, but 1 to "
            f"{backend.max_text_tokens} are allowed; truncate them first"
        )
    unpooled = tokens.num_unpooled
    if unpooled is not None and (
        unpooled.dtype != np.int32
        or unpooled.shape != lengths.shape
        or (unpooled < 0).any()
        or (unpooled >= lengths).any()
    ):
        raise BackendError("a batch must leave at least one token of each text to pool")
    if len(ids) > backend.max_batch_tokens or len(lengths) > backend.max_batch_texts:
        raise BackendError(
            f"a batch has {len(lengths)} texts and {len(ids)} tokens, but the limits are "
            f"{backend.max_batch_texts} and {backend.max_batch_tokens}; send a smaller batch"
        )
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise BackendError(
            f"a batch has token ids from {ids.min()} to {ids.max()}, but the vocabulary has {vocab_size}; "
            "the tokenizer belongs to another model"
        )
