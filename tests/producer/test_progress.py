"""What people see while a run works: how far it is, how fast, and how long it will take."""

import io
from typing import Any

import pytest
from rich.console import Console

from producer.bulk import Summary
from producer.cli.progress import ProgressDisplay
from producer.cli.throughput import Throughput
from producer.files import Totals


def at(seconds: float, num_texts: int, **more: Any) -> Summary:
    standard: dict[str, Any] = {
        "num_texts": num_texts, "num_tokens": num_texts * 9, "num_truncated": 0, "failed": {},
        "seconds": seconds, "sources": (), "prompt_name": None, "estimated_texts": None, "earlier": Totals(),
    }  # fmt: skip
    return Summary(**{**standard, **more})


@pytest.mark.parametrize("wait_s", [0, 60])
@pytest.mark.parametrize("earlier", [0, 500_000])
def test_the_time_left_is_right_from_the_tenth_second(wait_s: int, earlier: int) -> None:
    """On constant load, however long the worker took to start and whatever earlier runs have done."""
    throughput, had = Throughput(), Totals(num_texts=earlier, num_tokens=earlier * 9)
    for tenths in range(1, 400):
        seconds = tenths / 10
        summary = at(
            wait_s + seconds, earlier + round(1000 * seconds), estimated_texts=1_000_000, earlier=had
        )
        throughput.add(summary)
        if seconds >= 10:
            left_s = throughput.left_s(summary)
            expected_s = (1_000_000 - earlier) / 1000 - seconds
            assert left_s is not None
            assert abs(left_s - expected_s) < 0.2 * expected_s
            assert abs(throughput.tokens_per_s - 9000) < 0.2 * 9000


def test_a_change_of_speed_shows_after_half_a_minute() -> None:
    """When half of the workers go, the time left is soon that of the other half."""
    throughput, texts = Throughput(), 0
    for seconds in range(1, 1000):
        texts += 1000 if seconds < 900 else 500
        throughput.add(at(seconds, texts))
        if seconds in (899, 940):
            assert throughput.texts_per_s == pytest.approx(1000 if seconds == 899 else 500)


def test_texts_that_are_too_long_are_told_at_once() -> None:
    """Once, with the choice there is; texts that were cut are counted while it runs."""
    stream = io.StringIO()
    with ProgressDisplay(Console(file=stream, width=300), quiet=False, plain_every_s=0) as display:
        display.update(at(1, 100))
        display.update(at(2, 200, failed={"text_too_long": 1}, num_truncated=3))
        display.update(at(3, 300, failed={"text_too_long": 5}, num_truncated=4))
    told = stream.getvalue().splitlines()
    assert [line for line in told if "--truncate END" in line] == [told[1]]
    assert told[3] == "300 texts, 100 texts/s, 900 tokens/s, 5 failed, 4 cut"


def test_the_bar_tells_the_same_as_the_log() -> None:
    """The time left is computed in one place."""
    lines = []
    for is_terminal in (False, True):
        stream = io.StringIO()
        console = Console(file=stream, width=160, force_terminal=is_terminal, color_system=None)
        with ProgressDisplay(console, quiet=False, plain_every_s=0) as display:
            display.update(at(1, 1000, estimated_texts=61_000))
            display.update(at(2, 2000, estimated_texts=61_000))
        lines.append(stream.getvalue())
    assert all("59 s left" in line for line in lines)
