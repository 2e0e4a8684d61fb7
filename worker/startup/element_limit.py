"""How large an element of a model's vectors int8 must hold, measured from the vectors of known texts."""

import math
from dataclasses import dataclass

import numpy as np

from worker.contract import FloatArray

# In standard deviations of an element. Of MiniLM's, ordinary texts stay below 6; "" reaches 8.0, "[PAD]" 8.7.
_SPAN_SIGMAS = 10.0
_HEADROOM = 1.25  # other texts may exceed the golden ones by this factor
# Precisions differ by less than this, so that all workers of a model agree on its limit.
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementLimit:
    """The largest element that int8 holds, the same for every text, job and worker of a model.

    If all vectors have `unit` length, `value` is the limit times the square root of the number of dimensions;
    else it is the limit of whole and of shortened vectors.
    """

    unit: bool
    value: float

    def of(self, dim: int) -> float:
        """The limit for vectors of `dim` dimensions."""
        return min(1.0, self.value / math.sqrt(dim)) if self.unit else self.value


def element_limit(vectors: FloatArray) -> ElementLimit:
    """The limit for a model that gives these vectors, float32 (n, dim), to its golden texts.

    A span of ten standard deviations, doubled until all of them fit with room to spare. Vectors that are not
    of unit length are taken to be as long as the longest, rounded up to a power of two: coarse steps, on
    which workers with different precisions agree.
    """
    exact = np.abs(vectors.astype(np.float64))
    norms = np.sqrt(np.square(exact).sum(axis=1))
    root = math.sqrt(vectors.shape[1])
    if ((np.abs(norms - 1) < _TOLERANCE) | (norms == 0)).all():
        return ElementLimit(unit=True, value=_doubled(_SPAN_SIGMAS, exact.max() * root))
    length = 2.0 ** math.ceil(math.log2(norms.max() * (1 - _TOLERANCE)))
    return ElementLimit(unit=False, value=_doubled(length * min(1.0, _SPAN_SIGMAS / root), exact.max()))


def _doubled(span: float, largest: float) -> float:
    """The span, doubled until it holds `largest` with headroom."""
    while span < largest * _HEADROOM:
        span *= 2
    return span
