"""Which batches an engine is built for, and how any batch is cut into those."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.small_network import small_tokens

from worker.engines.buckets import split_into_buckets
from worker.engines.shapes import Bucket, shapes_for
from worker.graphs.padded.inputs import padded_inputs


def test_the_ladder_ends_at_the_longest_text() -> None:
    """Steps of a half or a third between, each full at the budget."""
    shapes = shapes_for(512, 16_384)
    assert [shape.num_tokens for shape in shapes] == [32, 64, 96, 128, 192, 256, 384, 512]
    assert [shape.max_texts for shape in shapes] == [512, 256, 170, 128, 85, 64, 42, 32]
    assert [shape.num_tokens for shape in shapes_for(20, 16_384)] == [20]
    assert [bucket.num_texts for bucket in shapes[-1].buckets] == [2, 4, 8, 16, 32]


def test_a_text_longer_than_the_budget_runs_alone() -> None:
    """One bucket of one text."""
    assert shapes_for(256, 100)[-1].buckets == (Bucket(1, 256),)


@given(
    max_text_tokens=st.integers(1, 600),
    budget=st.integers(1, 4000),
    seed=st.integers(0, 2**31),
    num_texts=st.integers(1, 200),
)
def test_every_text_runs_once_in_a_bucket_that_fits(
    max_text_tokens: int, budget: int, seed: int, num_texts: int
) -> None:
    """In no more than three times the slots of the budget, which is the memory set aside for them."""
    budget = max(budget, max_text_tokens)
    shapes = shapes_for(max_text_tokens, budget)
    slots = max(shape.max_texts * shape.num_tokens for shape in shapes)
    random = np.random.default_rng(seed)
    longest = int(random.integers(1, max_text_tokens + 1))
    num_texts = max(1, min(num_texts, slots // longest, shapes[0].max_texts))
    lengths = random.integers(1, longest + 1, num_texts).astype(np.int32)
    cut = split_into_buckets(lengths, shapes)
    assert sorted(np.concatenate([micro_batch.texts for micro_batch in cut])) == list(range(num_texts))
    known = {bucket for shape in shapes for bucket in shape.buckets}
    for micro_batch in cut:
        assert micro_batch.bucket in known
        assert len(micro_batch.texts) <= micro_batch.bucket.num_texts
        assert lengths[micro_batch.texts].max() <= micro_batch.bucket.num_tokens
    assert sum(micro_batch.bucket.num_slots for micro_batch in cut) <= 3 * slots


def test_the_smallest_bucket_that_fits_is_taken() -> None:
    """Not the fullest."""
    shapes = shapes_for(128, 1024)
    lengths = np.full(3, 40, np.int32)
    assert [micro_batch.bucket for micro_batch in split_into_buckets(lengths, shapes)] == [Bucket(4, 64)]


def test_padding_counts_for_nothing() -> None:
    """Slots without a token hold zeros, and rows without a text are one token long."""
    tokens = small_tokens(2, 4)
    inputs = padded_inputs(tokens, np.array([1, 0]), 0, num_texts=3, num_tokens=5)
    first, second = tokens.ids[2:6].tolist(), tokens.ids[:2].tolist()
    assert inputs["ids"].tolist() == [[*first, 0], [*second, 0, 0, 0], [0] * 5]
    assert inputs["positions"].tolist() == [[0, 1, 2, 3, 0], [0, 1, 0, 0, 0], [0] * 5]
    assert inputs["lengths"].tolist() == [4, 2, 1]
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.int32)}
