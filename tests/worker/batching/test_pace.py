"""The size of batches follows the device's speed, so that none takes longer than wanted."""

import asyncio

import numpy as np
import pytest
from support.clockwork import Clockwork

from producer.errors import BackendDead
from worker.batching.batcher import Batcher
from worker.batching.pace import Pace
from worker.batching.packing import Budget
from worker.batching.runner import Runner
from worker.contract import Tokens
from worker.startup.speed import measured_tokens_per_s
from worker.telemetry.activity import Activity
from worker.telemetry.events import BatchEvent


def texts(count: int, length: int) -> Tokens:
    offsets = np.arange(count + 1, dtype=np.int32) * length
    return Tokens(np.arange(1, count * length + 1, dtype=np.int32), offsets)


def test_a_batch_is_as_large_as_time_and_memory_allow() -> None:
    """At least as large as keeps every processor busy; unbounded without a time."""
    pace = Pace(1000, max_batch_s=0.25, least_tokens=100)
    assert pace.bounded(10_000) == 250
    assert pace.bounded(200) == 200
    assert Pace(10, max_batch_s=0.25, least_tokens=100).bounded(10_000) == 100
    assert Pace(10).bounded(10_000) == 10_000
    assert pace.expected_s(500) == pytest.approx(0.5)


def test_it_learns_from_batches_that_are_nearly_full() -> None:
    """Small ones are slow for each token, which says nothing about large ones."""
    pace = Pace(1000, max_batch_s=0.25)
    pace.learn(10, 10.0, budget_tokens=250)
    assert pace.bounded(10_000) == 250
    for _ in range(100):
        pace.learn(250, 0.5, budget_tokens=250)
    assert pace.bounded(10_000) == pytest.approx(125, abs=1)


@pytest.mark.parametrize("padded", [False, True])
def test_the_speed_is_measured_at_boot(padded: bool) -> None:
    """With texts in batches, padding included."""
    backend = Clockwork(dim=8, padded=padded, max_batch_tokens=4096, max_text_tokens=64)
    assert measured_tokens_per_s(backend, texts(20, 64)) == pytest.approx(1e4, rel=0.3)


async def test_batches_take_the_time_that_they_may() -> None:
    """Whatever was measured first: here the device is four times as fast."""
    events: list[BatchEvent] = []
    backend = Clockwork(dim=8, max_batch_tokens=4096, max_text_tokens=64)
    batcher = Batcher(Budget.of(backend), dim=8)
    pace = Pace(2500, max_batch_s=0.02)
    runner = Runner(
        backend, batcher, pace=pace, activity=Activity(30), on_batch=events.append, on_death=print
    )
    await batcher.embed(texts(1500, 5))
    batcher.close(BackendDead("the test is over"))
    await asyncio.to_thread(runner.close)
    assert events[0].cost_tokens <= 50
    assert max(event.cost_tokens for event in events) <= 200
    assert np.median([event.cost_tokens for event in events[len(events) // 2 :]]) > 100
