"""From the backend's float32 vectors to what the job asked for: fewer dimensions, other element types."""

import math

import numpy as np
import numpy.typing as npt

from producer.contract import EmbeddingType
from worker.contract import FloatArray

# An int8 spans this many standard deviations of a unit vector's elements on each side: enough that next
# to nothing is clipped, and the same for every text, so that dot products stay comparable between jobs.
INT8_SPAN_SIGMAS = 6.0


def int8_scale(dim: int) -> float:
    """What an int8 step is worth, for unit vectors of `dim` dimensions."""
    return min(1.0, INT8_SPAN_SIGMAS / math.sqrt(dim)) / 127


def shorten(vectors: FloatArray, dimensions: int | None) -> FloatArray:
    """The first `dimensions` elements brought back to unit length (Matryoshka); all if None."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    head = vectors[:, :dimensions]
    norms = np.linalg.norm(head, axis=1, keepdims=True)
    norms[norms == 0] = 1
    shortened: FloatArray = head / norms
    return shortened


def cast(vectors: FloatArray, kind: EmbeddingType) -> tuple[npt.NDArray[np.generic], float | None]:
    """The vectors in the element type asked for, and the scale of an int8 or uint8 element.

    Binary types have one sign bit a dimension, most significant first, zero-padded to whole bytes, as
    sentence-transformers packs them. NaN rows stay NaN in float types and become 0 in the others.
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
