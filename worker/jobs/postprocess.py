"""Converts the backend's float32 vectors to the dimensions and element type that the job asked for."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.contract import EmbeddingType, TextFailure
from worker.contract import FloatArray, Indices
from worker.models.number_formats import FP16_MAX

_INT8_STEPS = 127


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """Vectors in their element type, with the value of one step, None unless that is int8 or uint8.

    The vectors at `lost` intp (k,) have an element that the type does not hold, or would become zero: they
    count as failed.
    """

    vectors: npt.NDArray[np.generic]
    scale: float | None
    lost: Indices


def shorten(vectors: FloatArray, dimensions: int | None, *, unit: bool) -> FloatArray:
    """Truncate to the first `dimensions` elements (Matryoshka); all elements if None.

    If whole vectors have `unit` length, shortened ones are normalised to have it too.
    """
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    head = vectors[:, :dimensions]
    if not unit:
        return np.ascontiguousarray(head)
    norms = np.linalg.norm(head, axis=1, keepdims=True)
    norms[norms == 0] = 1
    shortened: FloatArray = head / norms
    return shortened


def cast(vectors: FloatArray, kind: EmbeddingType, *, limit: float) -> Cast:
    """Convert to an element type; int8 and uint8 hold elements up to `limit`, in equal steps.

    Binary types have one sign bit per dimension, most significant first, zero-padded to whole bytes, as in
    sentence-transformers. Rows that are NaN or lost are NaN in float types and 0 in the others.
    """
    match kind:
        case EmbeddingType.FLOAT32:
            return Cast(vectors, None, np.empty(0, dtype=np.intp))
        case EmbeddingType.FLOAT16:
            return _half(vectors)
        case EmbeddingType.BINARY | EmbeddingType.UBINARY:
            return _binary(vectors, signed=kind is EmbeddingType.BINARY)
        case EmbeddingType.INT8 | EmbeddingType.UINT8:
            return _int8(vectors, limit / _INT8_STEPS, signed=kind is EmbeddingType.INT8)


def out_of_range(index: int, vector: FloatArray, kind: EmbeddingType, final: Cast) -> TextFailure:
    """Why the text at `index`, whose `vector` was lost in the cast, has none."""
    largest = float(np.abs(vector).max())
    held = FP16_MAX if final.scale is None else _INT8_STEPS * final.scale
    problem = "is beyond" if largest > held else "is too small for"
    return TextFailure(
        index,
        "out_of_range",
        f"text {index}: the largest element of its vector, {largest:.4g}, {problem} what {kind.value} holds "
        f"for this model, up to {held:.4g}; ask for float32",
    )


def _half(vectors: FloatArray) -> Cast:
    with np.errstate(over="ignore"):
        halves = vectors.astype(np.float16)
    lost = np.flatnonzero(_any(np.isinf(halves)) | _vanished(vectors, halves))
    halves[lost] = np.nan
    return Cast(halves, None, lost)


def _binary(vectors: FloatArray, *, signed: bool) -> Cast:
    bits = np.packbits(vectors > 0, axis=1)
    packed = (bits.astype(np.int16) - 128).astype(np.int8) if signed else bits
    packed[_any(np.isnan(vectors))] = 0
    return Cast(packed, None, np.empty(0, dtype=np.intp))


def _int8(vectors: FloatArray, scale: float, *, signed: bool) -> Cast:
    steps = np.rint(vectors / scale)
    lost = np.flatnonzero(_any(np.abs(steps) > _INT8_STEPS) | _vanished(vectors, steps))
    failed = _any(np.isnan(vectors))
    failed[lost] = True
    steps[failed] = 0
    if signed:
        return Cast(steps.astype(np.int8), scale, lost)
    steps += 128
    steps[failed] = 0
    return Cast(steps.astype(np.uint8), scale, lost)


def _vanished(vectors: FloatArray, rounded: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Which rows were rounded to zero but are not."""
    return ~_any(rounded != 0) & _any(vectors != 0)


def _any(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows have a true element."""
    return np.asarray(mask.any(axis=1))
