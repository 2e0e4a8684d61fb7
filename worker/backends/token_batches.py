"""Builds batches for verification: single texts, and the fullest batch that a backend accepts."""

import numpy as np
import numpy.typing as npt

from worker.contract import Backend, FloatArray, Indices, Tokens


def embed_one_by_one(backend: Backend, tokens: Tokens) -> FloatArray:
    """Embed each text in a separate batch: float32 (n, dim). Raises BackendError."""
    single = (take(tokens, np.array([index], dtype=np.intp)) for index in range(len(tokens)))
    return np.concatenate([backend.collect(backend.launch(each)) for each in single])


def full_batch(lengths: npt.NDArray[np.int32], backend: Backend) -> Indices:
    """Indices for the fullest batch: all texts, repeated, longest first, up to the backend's limits."""
    order = np.argsort(-lengths, kind="stable")
    num_rounds = 1 + backend.max_batch_tokens // int(lengths.sum())
    many = np.tile(order, num_rounds)
    if backend.padded:
        cost = int(lengths.max()) * np.arange(1, len(many) + 1)
    else:
        cost = np.cumsum(lengths[many].astype(np.int64))
    fitting = int(np.searchsorted(cost, backend.max_batch_tokens, side="right"))
    return many[: max(1, min(fitting, backend.max_batch_texts))]


def take(tokens: Tokens, texts: Indices) -> Tokens:
    """The texts at these indices, in this order; an index may occur more than once."""
    starts, ends = tokens.offsets[:-1][texts].tolist(), tokens.offsets[1:][texts].tolist()
    ids = np.concatenate([tokens.ids[start:end] for start, end in zip(starts, ends, strict=True)])
    offsets = np.concatenate(([0], np.cumsum(tokens.lengths[texts]))).astype(np.int32)
    return Tokens(ids, offsets, None if tokens.num_unpooled is None else tokens.num_unpooled[texts])
