"""Everything that can be killed is killed, again and again; every job is answered, once, and rightly."""

from pathlib import Path

import pytest

from benchmarks.soak.chaos import DEPTH, chaos

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_chaos(tmp_path: Path) -> None:
    """10,000 jobs on a full queue; `chaos` itself asserts that none was lost, doubled, wrong or condemned."""
    report = await chaos(10_000, tmp_path)
    assert report.outcomes.keys() == {"embedded", "cancelled", "invalid_option"}
    assert report.poison_texts_found == 4
    assert report.median_wait_s["high"] < report.median_wait_s["normal"] < report.median_wait_s["low"]
    assert report.median_depth > DEPTH / 4, "the queue was not full"
    happened = report.faults
    assert happened["server killed"] == 2
    # A kill waits until two workers serve, and boots are slow on a busy machine: about one in three seconds.
    assert happened["workers killed"] >= 3, report
    assert happened["connections cut"] >= 10, report
    assert happened["workers terminated"] > 0
    assert happened["workers suspended"] > 0
