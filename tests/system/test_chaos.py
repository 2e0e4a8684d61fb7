"""Everything that can be killed is killed, again and again; every job is answered, once, and rightly."""

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.soak.chaos import ROUNDS, chaos
from benchmarks.soak.faults import deal


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_fault_is_dealt_before_any_comes_again(seed: int) -> None:
    """Whatever the seed, in another order each time; the same order for the same seed."""
    kinds = list("abcdefgh")
    first, second = (list(islice(deal(kinds, random.Random(seed)), 40)) for _ in range(2))
    assert first == second
    rounds = [first[start : start + len(kinds)] for start in range(0, len(first), len(kinds))]
    assert all(sorted(one) == kinds for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("program", ["valkey", "redis"], indirect=True)
async def test_chaos(program: str, tmp_path: Path) -> None:
    """5,000 jobs on a full queue; `chaos` itself asserts that none was lost, doubled, wrong or condemned."""
    report = await chaos(5_000, tmp_path, program=program, seed=random.randrange(1 << 32))
    assert report.outcomes.keys() == {"embedded", "cancelled", "invalid_option"}
    assert report.poison_texts_found >= 2
    assert report.median_wait_s["high"] < report.median_wait_s["normal"] < report.median_wait_s["low"]
    assert Counter(report.faults) >= Counter(dict.fromkeys(report.faults, ROUNDS)), report
