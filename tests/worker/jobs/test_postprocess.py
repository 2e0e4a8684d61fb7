"""Postprocessing of vectors: Matryoshka, element types, failed rows."""

import numpy as np
import pytest

from producer.contract import EmbeddingType
from worker.contract import FloatArray
from worker.jobs.postprocess import cast, int8_scale, shorten


def unit(rows: int, dim: int) -> FloatArray:
    vectors = np.random.default_rng(7).normal(size=(rows, dim)).astype(np.float32)
    normalised: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalised


def test_shortened_vectors_have_unit_length_again() -> None:
    """The first dimensions, normalised again; unchanged if no number or the full number is asked for."""
    vectors = unit(5, 64)
    short = shorten(vectors, 16)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(short[0] / short[0, 0], vectors[0, :16] / vectors[0, 0], rtol=1e-4)
    assert shorten(vectors, None) is vectors
    assert shorten(vectors, 64) is vectors
    assert not np.isnan(shorten(np.zeros((1, 8), dtype=np.float32), 4)).any()


def test_int8_keeps_the_angle() -> None:
    """One scale for all texts keeps cosines and dot products within a percent."""
    vectors = unit(200, 384)
    steps, scale = cast(vectors, EmbeddingType.INT8)
    assert scale == int8_scale(384)
    back = steps.astype(np.float32) * scale
    cosines = (back * vectors).sum(axis=1) / np.linalg.norm(back, axis=1)
    assert cosines.min() > 0.9998
    np.testing.assert_allclose(back @ back.T, vectors @ vectors.T, atol=0.01)


def test_uint8_is_int8_shifted() -> None:
    """As vector databases expect."""
    signed, _ = cast(unit(3, 32), EmbeddingType.INT8)
    unsigned, scale = cast(unit(3, 32), EmbeddingType.UINT8)
    assert unsigned.dtype == np.uint8
    assert scale is not None
    np.testing.assert_array_equal(unsigned.astype(int) - 128, signed.astype(int))


@pytest.mark.parametrize("dim", [384, 12])
def test_binary_is_packed_as_sentence_transformers_does(dim: int) -> None:
    """One sign bit per dimension, most significant first; binary is ubinary minus 128."""
    vectors = unit(4, dim)
    ubinary, _ = cast(vectors, EmbeddingType.UBINARY)
    binary, _ = cast(vectors, EmbeddingType.BINARY)
    assert ubinary.dtype == np.uint8
    assert ubinary.shape == (4, (dim + 7) // 8)
    np.testing.assert_array_equal(np.unpackbits(ubinary.view(np.uint8), axis=1)[:, :dim], vectors > 0)
    np.testing.assert_array_equal(binary.astype(int) + 128, ubinary)
    assert binary.dtype == np.int8


@pytest.mark.parametrize("kind", list(EmbeddingType))
def test_the_row_of_a_failed_text_is_nan_or_zero(kind: EmbeddingType) -> None:
    """It cannot be mistaken for a vector; its neighbours are untouched."""
    vectors = unit(3, 16)
    vectors[1] = np.nan
    got, _ = cast(vectors, kind)
    alone, _ = cast(vectors[[0, 2]], kind)
    np.testing.assert_array_equal(got[[0, 2]], alone)
    if np.issubdtype(got.dtype, np.floating):
        assert np.isnan(got[1]).all()
    else:
        assert not got[1].any()
