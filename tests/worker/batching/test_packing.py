"""Properties of packing: within budget, with the oldest text, no text twice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.batching.packing import Budget, fill, pack

lengths_of_texts = st.lists(st.integers(1, 600), min_size=1, max_size=300).map(
    lambda rows: np.array(rows, dtype=np.int32)
)
budgets = st.builds(
    Budget, max_tokens=st.integers(1, 4096), max_texts=st.integers(1, 64), padded=st.booleans()
)


def cost(lengths: np.ndarray, *, padded: bool) -> int:
    return int(lengths.max()) * len(lengths) if padded else int(lengths.sum())


@given(lengths=lengths_of_texts, budget=budgets)
def test_a_batch_keeps_the_budget(lengths: np.ndarray, budget: Budget) -> None:
    """Except that one text larger than the whole budget goes alone."""
    chosen = lengths[pack(lengths, budget=budget)]
    assert len(chosen) == 1 or cost(chosen, padded=budget.padded) <= budget.max_tokens
    assert len(chosen) <= budget.max_texts


@given(lengths=lengths_of_texts, budget=budgets)
def test_the_oldest_text_is_included_and_none_twice(lengths: np.ndarray, budget: Budget) -> None:
    """So every text is answered after at most as many batches as texts waited before it."""
    chosen = pack(lengths, budget=budget).tolist()
    assert 0 in chosen
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(range(len(lengths)))


@given(lengths=lengths_of_texts, budget=budgets)
def test_no_neighbour_in_length_is_left_while_there_is_room(lengths: np.ndarray, budget: Budget) -> None:
    """The batch is a range of the sorted lengths that cannot grow at its upper end."""
    chosen = pack(lengths, budget=budget)
    rest = np.setdiff1d(np.arange(len(lengths)), chosen)
    longer = rest[lengths[rest] >= lengths[chosen].max()]
    if len(longer) == 0 or len(chosen) >= budget.max_texts:
        return
    grown = np.append(lengths[chosen], lengths[longer].min())
    assert cost(grown, padded=budget.padded) > budget.max_tokens


@given(lengths=lengths_of_texts, budget=budgets, num_first=st.integers(1, 300))
def test_texts_that_come_first_are_only_joined(lengths: np.ndarray, budget: Budget, num_first: int) -> None:
    """Others join while there is room: the batch they make alone is included and costs no more per text."""
    own = pack(lengths[:num_first], budget=budget)
    chosen = pack(lengths, budget=budget, num_first=num_first)
    assert chosen[: len(own)].tolist() == own.tolist()
    assert len(set(chosen.tolist())) == len(chosen)
    assert set(chosen[len(own) :].tolist()) <= set(range(num_first, len(lengths)))
    assert len(chosen) <= budget.max_texts
    if len(chosen) > 1:
        assert cost(lengths[chosen], padded=budget.padded) <= budget.max_tokens
    if budget.padded:
        assert lengths[chosen].max() == lengths[own].max()


def test_similar_lengths_are_batched() -> None:
    """Around the oldest text the nearest in length, not the next in order of arrival."""
    lengths = np.array([100, 5, 300, 98, 6, 99, 290], dtype=np.int32)
    budget = Budget(max_tokens=300, max_texts=8, padded=True)
    assert sorted(pack(lengths, budget=budget).tolist()) == [0, 3, 5]


@given(
    jobs=st.lists(lengths_of_texts, min_size=1, max_size=6),
    max_tokens=st.integers(1, 2000),
    max_texts=st.integers(1, 64),
)
def test_a_batch_in_order_of_arrival(jobs: list[np.ndarray], max_tokens: int, max_texts: int) -> None:
    """It keeps the budget, the head gets half of it or all it needs, and the next text would not fit."""
    budget = Budget(max_tokens=max_tokens, max_texts=max_texts, padded=False)
    head, *others = jobs
    counts = fill(head, others, budget=budget)
    parts = [lengths[:count] for lengths, count in zip(jobs, counts, strict=False)]
    num_tokens, num_texts = sum(int(part.sum()) for part in parts), sum(map(len, parts))
    assert num_texts <= max_texts
    assert num_tokens <= max_tokens or num_texts == counts[0] == 1
    assert counts[0] >= 1
    following = head[counts[0] :]
    if len(following) and counts[0] < max_texts:
        assert int(parts[0].sum() + following[0]) > max_tokens // 2
    for lengths, count in zip(jobs, [*counts, *[0] * len(jobs)], strict=False):
        if count < len(lengths) and num_texts < max_texts:
            assert num_tokens + int(lengths[count]) > max_tokens
            break
