"""Bisection of a job finds exactly the texts that kill, in a bounded number of deaths."""

from collections import Counter
from collections.abc import Callable
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.consumer.bisection import MAX_DEATHS, NOTHING, Bisection, Range


def narrow(num_texts: int, kills: Callable[[Range], bool], chance: frozenset[int] = frozenset()) -> Bisection:
    """The bisection when the job is answered; every run begins with what the last one left in Redis.

    At the steps of `chance` the worker dies of something else, but no text alone is hit three times.
    """
    line, step, hit = "", 0, Counter[Range]()
    while True:
        bisection = Bisection.decode(line).over(num_texts)
        for some in bisection.ranges:
            step += 1
            by_chance = step in chance and (len(some) > 1 or hit[some] < 2)
            if by_chance and len(some) == 1:
                hit[some] += 1
            if by_chance or kills(some):
                line = f"{bisection.encode()}+{some}"
                break
            bisection = bisection.survived(some)
        else:
            return bisection


def holds(killers: set[int]) -> Callable[[Range], bool]:
    return lambda some: any(some.start <= at < some.end for at in killers)


@st.composite
def jobs(draw: st.DrawFn) -> tuple[int, set[int]]:
    num_texts = draw(st.integers(1, 4096))
    return num_texts, draw(st.sets(st.integers(0, num_texts - 1), max_size=6))


@settings(max_examples=200, deadline=None)
@given(job=jobs(), chance=st.frozensets(st.integers(1, 60), max_size=8))
def test_exactly_the_killers_are_found(job: tuple[int, set[int]], chance: frozenset[int]) -> None:
    """Whatever else kills workers meanwhile; every other text is among those that were survived."""
    num_texts, killers = job
    bisection = narrow(num_texts, holds(killers), chance)
    assert set(bisection.killers) == killers
    assert not bisection.suspects
    assert not bisection.lone_deaths
    covered = sorted([*bisection.cleared, *(Range(at, at + 1) for at in killers)])
    assert [one.start for one in covered] == [0, *(one.end for one in covered[:-1])]
    assert covered[-1].end == num_texts
    allowed = len(chance) + len(killers) * (3 + ceil(log2(num_texts)))
    assert bisection.num_deaths <= allowed


@given(pair=st.sets(st.integers(0, 999), min_size=2, max_size=2))
def test_texts_that_kill_only_together_are_kept_apart(pair: set[int]) -> None:
    """None of them is a killer: all are answered, from ranges that do not hold both."""
    first, second = sorted(pair)
    bisection = narrow(1000, lambda some: some.start <= first and second < some.end)
    assert bisection.killers == ()
    assert bisection.num_deaths <= 10


def test_three_killers_among_as_many_texts_as_a_job_may_have_are_within_bounds() -> None:
    """However far they are apart."""
    bisection = narrow(4096, holds({0, 2047, 4095}))
    assert bisection.num_deaths == 42
    assert narrow(4096, holds({17})).num_deaths == 15
    assert not bisection.exhausted
    assert Bisection(num_deaths=MAX_DEATHS).exhausted


def test_two_deaths_alone_may_be_chance() -> None:
    """A text is a killer after three deaths in a row; surviving in between clears it."""
    [alone] = Bisection().over(1).ranges
    once = Bisection().over(1).died(alone)
    assert (once.lone_deaths, once.killers, once.ranges) == ((0,), (), (alone,))
    twice = once.died(alone)
    assert (twice.lone_deaths, twice.killers, twice.ranges) == ((0, 0), (), (alone,))
    assert twice.died(alone).killers == (0,)
    assert twice.died(alone).lone_deaths == ()
    assert twice.survived(alone).died(alone).killers == ()


def test_a_death_before_any_text_is_counted_and_blames_none() -> None:
    """It happened while the request was decoded, or the answer encoded."""
    bisection = Bisection().over(8)
    assert bisection.died(NOTHING) == Bisection(num_deaths=1, suspects=bisection.suspects)
    assert Bisection.decode(f"+{NOTHING}").over(8) == bisection.died(NOTHING)


def test_a_bisection_of_another_number_of_texts_begins_anew() -> None:
    """So that no text can be left without an answer; its deaths still count."""
    bisection = Bisection(num_deaths=3, killers=(1,), suspects=(Range(0, 1),), cleared=(Range(2, 4),))
    assert bisection.over(4) == bisection
    assert bisection.over(5) == Bisection(num_deaths=3, suspects=(Range(0, 5),))


@pytest.mark.parametrize("line", ["x", "1;2", "1;;;0-4;+", "1;;;0-4;+4", "1;;;4;"])
def test_foreign_lines_are_refused(line: str) -> None:
    """ValueError, so that a claim can begin anew."""
    with pytest.raises(ValueError, match=r"int\(\)|unpack"):
        Bisection.decode(line)
