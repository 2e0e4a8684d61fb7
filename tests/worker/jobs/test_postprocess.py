"""Postprocessing of vectors: Matryoshka, element types, failed rows, what a type does not hold."""

import numpy as np
import pytest

from producer.contract import EmbeddingType
from worker.contract import FloatArray
from worker.jobs.postprocess import cast, out_of_range, shorten
from worker.startup.element_limit import ElementLimit

LIMIT = ElementLimit(unit=True, value=10.0)
INTEGERS = [EmbeddingType.INT8, EmbeddingType.UINT8]


def unit(rows: int, dim: int) -> FloatArray:
    vectors = np.random.default_rng(7).normal(size=(rows, dim)).astype(np.float32)
    normalised: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalised


def test_shortened_unit_vectors_have_unit_length_again() -> None:
    """The first dimensions, normalised again; unchanged if no number or the full number is asked for."""
    vectors = unit(5, 64)
    short = shorten(vectors, 16, unit=True)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(short[0] / short[0, 0], vectors[0, :16] / vectors[0, 0], rtol=1e-4)
    assert shorten(vectors, None, unit=True) is vectors
    assert shorten(vectors, 64, unit=True) is vectors
    assert not np.isnan(shorten(np.zeros((1, 8), dtype=np.float32), 4, unit=True)).any()


def test_other_vectors_are_shortened_and_nothing_else() -> None:
    """As in sentence-transformers: dot products of shortened vectors mean what those of whole ones do."""
    vectors = unit(5, 64) * 7
    np.testing.assert_array_equal(shorten(vectors, 16, unit=False), vectors[:, :16])


def test_int8_keeps_the_angle() -> None:
    """One scale for all texts keeps cosines and dot products within a percent."""
    vectors = unit(200, 384)
    final = cast(vectors, EmbeddingType.INT8, limit=LIMIT.of(384))
    assert final.scale == 10 / np.sqrt(384) / 127
    back = final.vectors.astype(np.float32) * np.float32(final.scale)
    cosines = (back * vectors).sum(axis=1) / np.linalg.norm(back, axis=1)
    assert cosines.min() > 0.9996
    np.testing.assert_allclose(back @ back.T, vectors @ vectors.T, atol=0.01)


def test_uint8_is_int8_shifted() -> None:
    """As vector databases expect."""
    signed = cast(unit(3, 32), EmbeddingType.INT8, limit=LIMIT.of(32))
    unsigned = cast(unit(3, 32), EmbeddingType.UINT8, limit=LIMIT.of(32))
    assert unsigned.vectors.dtype == np.uint8
    assert unsigned.scale == signed.scale
    np.testing.assert_array_equal(unsigned.vectors.astype(int) - 128, signed.vectors.astype(int))


@pytest.mark.parametrize("dim", [384, 12])
def test_binary_is_packed_as_sentence_transformers_does(dim: int) -> None:
    """One sign bit per dimension, most significant first; binary is ubinary minus 128."""
    vectors = unit(4, dim)
    ubinary = cast(vectors, EmbeddingType.UBINARY, limit=1.0).vectors
    binary = cast(vectors, EmbeddingType.BINARY, limit=1.0).vectors
    assert ubinary.dtype == np.uint8
    assert ubinary.shape == (4, (dim + 7) // 8)
    np.testing.assert_array_equal(np.unpackbits(ubinary.view(np.uint8), axis=1)[:, :dim], vectors > 0)
    np.testing.assert_array_equal(binary.astype(int) + 128, ubinary)
    assert binary.dtype == np.int8


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["binary", "ubinary"])
def test_binary_is_that_of_sentence_transformers(kind: str) -> None:
    """Of vectors of any length, zeros included: only signs count."""
    from sentence_transformers import quantize_embeddings

    vectors = unit(9, 100) * np.geomspace(1e-6, 1e6, 9, dtype=np.float32)[:, None]
    vectors[0] = 0
    found = cast(vectors, EmbeddingType(kind), limit=1.0).vectors
    np.testing.assert_array_equal(found, quantize_embeddings(vectors, precision=kind))


@pytest.mark.parametrize("kind", list(EmbeddingType))
def test_the_row_of_a_failed_text_is_nan_or_zero(kind: EmbeddingType) -> None:
    """It cannot be mistaken for a vector; its neighbours are untouched."""
    vectors = unit(3, 16)
    vectors[1] = np.nan
    final = cast(vectors, kind, limit=LIMIT.of(16))
    alone = cast(vectors[[0, 2]], kind, limit=LIMIT.of(16)).vectors
    np.testing.assert_array_equal(final.vectors[[0, 2]], alone)
    assert len(final.lost) == 0  # it has its own failure
    if np.issubdtype(final.vectors.dtype, np.floating):
        assert np.isnan(final.vectors[1]).all()
    else:
        assert not final.vectors[1].any()


@pytest.mark.parametrize("kind", INTEGERS)
def test_no_element_saturates(kind: EmbeddingType) -> None:
    """The last step is used; a text whose vector has an element beyond it fails, and says what to do."""
    vectors = np.full((4, 8), 0.1, dtype=np.float32)
    vectors[1, 3] = vectors[2, 3] = -4.0
    vectors[2, 5] = 4.02  # half a step beyond is 4.016
    final = cast(vectors, kind, limit=4.0)
    assert final.lost.tolist() == [2]
    assert not final.vectors[2].any()
    zero = 128 if kind is EmbeddingType.UINT8 else 0
    assert final.vectors[1, 3] == zero - 127
    failure = out_of_range(2, vectors[2], kind, final)
    assert failure.code == "out_of_range"
    assert failure.message == (
        f"text 2: the largest element of its vector, 4.02, is beyond what {kind.value} holds for this model, "
        "up to 4; ask for float32"
    )


@pytest.mark.parametrize(
    ("kind", "tiny"), [(EmbeddingType.FLOAT16, 1e-9), *((kind, 0.01) for kind in INTEGERS)]
)
def test_no_vector_vanishes(kind: EmbeddingType, tiny: float) -> None:
    """One that would become zero fails; one of zeros is what the model gave."""
    vectors = np.array([[0.0, 0.0], [tiny, -tiny], [1.0, tiny]], dtype=np.float32)
    final = cast(vectors, kind, limit=4.0)
    assert final.lost.tolist() == [1]
    assert "is too small for what" in out_of_range(1, vectors[1], kind, final).message


def test_an_element_beyond_float16_fails_its_text() -> None:
    """It would be an infinity; the largest number that float16 has is kept."""
    vectors = np.array([[65_504, 1], [70_000, 1], [1, 2]], dtype=np.float32)
    final = cast(vectors, EmbeddingType.FLOAT16, limit=1.0)
    assert final.lost.tolist() == [1]
    assert np.isnan(final.vectors[1]).all()
    assert final.vectors[0].tolist() == [65_504, 1]
    failure = out_of_range(1, vectors[1], EmbeddingType.FLOAT16, final)
    assert "7e+04, is beyond what float16 holds" in failure.message
