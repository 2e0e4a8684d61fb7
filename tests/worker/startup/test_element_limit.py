"""The largest element that int8 holds: from golden texts, in steps so coarse that all workers agree."""

import numpy as np
import pytest

from worker.contract import FloatArray
from worker.startup.element_limit import ElementLimit, element_limit

RANDOM = np.random.default_rng(5)


def normal(rows: int, dim: int, *, length: float | None = None) -> FloatArray:
    """Random vectors, of this length if one is given."""
    vectors = RANDOM.normal(size=(rows, dim)).astype(np.float32)
    if length is not None:
        vectors *= np.float32(length) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def test_unit_vectors_have_one_limit_for_each_number_of_dimensions() -> None:
    """Ten standard deviations of an element, at most 1, whatever the texts were."""
    limit = element_limit(normal(40, 384, length=1.0))
    assert limit == element_limit(normal(3, 384, length=1.0)) == ElementLimit(unit=True, value=10.0)
    assert [limit.of(dim) for dim in (16, 100, 400, 1600)] == [1.0, 1.0, 0.5, 0.25]


def test_a_dimension_that_is_always_large_doubles_it() -> None:
    """As some models have one: every golden text fits."""
    vectors = normal(40, 1024, length=1.0)
    vectors[:, 7] = 0.65
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert element_limit(vectors).of(1024) == 1.0


@pytest.mark.parametrize("length", [1e-6, 0.3, 14.0, 4000.0])
def test_other_vectors_have_a_power_of_two_for_their_length(length: float) -> None:
    """It holds every golden text with room to spare, and is the same for whole and shortened vectors."""
    vectors = normal(40, 384, length=length) * RANDOM.uniform(0.5, 1, (40, 1)).astype(np.float32)
    limit = element_limit(vectors)
    assert not limit.unit
    assert limit.of(384) == limit.of(64)
    assert np.log2(limit.value * np.sqrt(384) / 10).is_integer()
    assert 1.25 <= limit.value / np.abs(vectors).max() < 6


@pytest.mark.parametrize("length", [1.0, 3.99, 4.01, 7.0])
def test_precisions_agree_on_it(length: float) -> None:
    """What fp16 and int8 do to vectors, less than a percent, does not move it."""
    vectors = normal(40, 384, length=length)
    near = vectors * RANDOM.uniform(0.997, 1.003, vectors.shape).astype(np.float32)
    assert element_limit(vectors) == element_limit(near) == element_limit(vectors.astype(np.float16))


def test_vectors_of_zeros_have_a_limit() -> None:
    """Of texts without a known word; alone they say nothing."""
    zeros = np.zeros((2, 64), dtype=np.float32)
    assert element_limit(zeros).of(64) == 1.0
    assert element_limit(np.concatenate([zeros, normal(5, 64, length=1.0)])).unit
