"""Converts the backend's float32 vectors to the dimensions and element type that the job asked for."""

import math

import numpy as np
import numpy.typing as npt

from producer.contract import EmbeddingType
from worker.contract import FloatArray

# An int8 spans this many standard deviations of a unit vector's elements on each side: almost nothing is
# clipped, and the step is the same for every text, so that dot products are comparable between jobs.
INT8_SPAN_SIGMAS = 6.0


def int8_scale(dim: int) -> float:
    """The value of one int8 step, for unit vectors of `dim` dimensions."""
    return min(1.0, INT8_SPAN_SIGMAS / math.sqrt(dim)) / 127


def shorten(vectors: FloatArray, dimensions: int | None) -> FloatArray:
    """Truncate to the first `dimensions` elements and normalise again (Matryoshka); all elements if None."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    head = vectors[:, :dimensions]
    norms = np.linalg.norm(head, axis=1, keepdims=True)
    norms[norms == 0] = 1
    shortened: FloatArray = head / norms
    return shortened


def cast(vectors: FloatArray, kind: EmbeddingType) -> tuple[npt.NDArray[np.generic], float | None]:
    """Convert to an element type; returns the scale too, None unless it is int8 or uint8.

    Binary types have one sign bit per dimension, most significant first, zero-padded to whole bytes, as in
    sentence-transformers. NaN rows stay NaN in float types and become 0 in the others.
    """
    if kind is EmbeddingType.FLOAT32:
        return vectors, None
    if kind is EmbeddingType.FLOAT16:
        return vectors.astype(np.float16), None
    failed = np.isnan(vectors).any(axis=1)
    if kind in (EmbeddingType.BINARY, EmbeddingType.UBINARY):
        bits = np.packbits(vectors > 0, axis=1)
        packed = bits if kind is EmbeddingType.UBINARY else (bits.astype(np.int16) - 128).astype(np.int8)
        packed[failed] = 0
        return packed, None
    scale = int8_scale(vectors.shape[1])
    steps = np.clip(np.rint(np.nan_to_num(vectors) / scale), -127, 127)
    if kind is EmbeddingType.INT8:
        return steps.astype(np.int8), scale
    steps += 128
    steps[failed] = 0
    return steps.astype(np.uint8), scale
