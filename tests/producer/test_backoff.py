"""Pauses between tries double up to a bound, and never overflow."""

import pytest

from producer.backoff import Backoff


def test_pauses_double_up_to_the_bound() -> None:
    """From the first failure on."""
    backoff = Backoff(first_s=0.5, max_s=3.0)
    assert [backoff.pause_s(num) for num in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_jitter_scales_each_pause() -> None:
    """Within its bounds, and not always alike."""
    backoff = Backoff(first_s=1.0, max_s=8.0, jitter=(0.5, 1.5))
    pauses = {backoff.pause_s(2) for _ in range(100)}
    assert len(pauses) > 50
    assert min(pauses) >= 1.0
    assert max(pauses) <= 3.0


@pytest.mark.parametrize("num_failures", [1_000, 2_000, 10**9])
def test_an_outage_may_be_long(num_failures: int) -> None:
    """However often it was tried."""
    assert Backoff(first_s=0.1, max_s=2.0).pause_s(num_failures) == 2.0
