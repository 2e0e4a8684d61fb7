"""What counts as hung: a stage or the event loop that takes far longer than it should, and nothing else."""

import asyncio
import threading
import time
from contextlib import closing

import pytest

from worker.serving.watchdog import Watchdog
from worker.telemetry.activity import PATIENCE, Activity, Hang, Stage

FLOOR_S = 0.1


def after(seconds: float, activity: Activity) -> Hang | None:
    time.sleep(seconds)
    return activity.hang()


@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.ANSWER, Stage.DEVICE])
def test_a_stage_that_takes_too_long_is_named(stage: Stage) -> None:
    """With the job whose texts it has, not with one that waits."""
    activity = Activity(FLOOR_S)
    activity.begin(Stage.WAIT, "waits")
    work = activity.begin(stage, "a")
    assert activity.hang() is None
    hang = after(FLOOR_S, activity)
    assert hang is not None
    assert (hang.stage, hang.suspects) == (stage, frozenset({"a"}))
    assert hang.seconds >= FLOOR_S
    activity.end(work)


def test_what_should_take_long_may() -> None:
    """A multiple of what is expected, and what it is given beyond that."""
    activity = Activity(FLOOR_S)
    activity.begin(Stage.DEVICE, "a", expected_s=2 * FLOOR_S / PATIENCE)
    activity.begin(Stage.PUBLISH, "b", extra_s=FLOOR_S)
    assert after(1.2 * FLOOR_S, activity) is None
    hang = after(FLOOR_S, activity)
    assert hang is not None
    assert hang.stage is Stage.DEVICE


def test_batches_take_turns() -> None:
    """The time of one begins when the one before it comes back; all on the device are suspects."""
    activity = Activity(FLOOR_S)
    first = activity.begin(Stage.DEVICE, "a")
    activity.begin(Stage.DEVICE, "b", "c")
    activity.begin(Stage.WAIT, "d")
    time.sleep(0.8 * FLOOR_S)
    activity.end(first)
    activity.begin(Stage.DEVICE, "d")
    assert after(0.8 * FLOOR_S, activity) is None
    hang = after(0.4 * FLOOR_S, activity)
    assert hang is not None
    assert hang.suspects == frozenset("bcd")


@pytest.mark.parametrize("stage", [Stage.WAIT, Stage.PUBLISH])
def test_where_nothing_touches_texts_nobody_is_suspect(stage: Stage) -> None:
    """Nor is waiting a hang as long as a batch is on the device and may be there."""
    activity = Activity(FLOOR_S)
    activity.begin(stage, "a")
    batch = activity.begin(Stage.DEVICE, "b", expected_s=FLOOR_S)
    hang = after(1.5 * FLOOR_S, activity)
    assert (hang is None) is (stage is Stage.WAIT)
    activity.end(batch)
    hang = after(1.5 * FLOOR_S, activity)
    assert hang is not None
    assert (hang.stage, hang.suspects) == (stage, frozenset())


async def test_a_loop_that_stands_still_is_a_hang() -> None:
    """Any job may have stopped it; one that is only busy in turns is none."""
    told: list[Hang] = []
    with closing(Watchdog(Activity(3 * FLOOR_S))) as watchdog:
        watchdog.start(told.append)
        for _ in range(5):
            time.sleep(FLOOR_S)  # noqa: ASYNC251 it is to stand still
            await asyncio.sleep(0)
        assert (watchdog.hung, told) == (False, [])
        time.sleep(5 * FLOOR_S)  # noqa: ASYNC251
        assert watchdog.hung
    assert [(one.stage, one.suspects) for one in told] == [(Stage.LOOP, None)]


def test_time_in_which_the_process_was_stopped_does_not_count() -> None:
    """A suspended machine or container goes on where it was."""
    activity = Activity(FLOOR_S)
    activity.begin(Stage.DEVICE, "a")
    time.sleep(2 * FLOOR_S)
    assert activity.hang() is not None
    activity.excuse(2 * FLOOR_S)
    assert activity.hang() is None


async def test_a_worker_that_ends_may_wait_for_its_threads() -> None:
    """The event loop stands still meanwhile; a thread that hangs is noticed all the same."""
    told: list[Hang] = []
    activity = Activity(FLOOR_S)
    with closing(Watchdog(activity)) as watchdog:
        watchdog.start(told.append)
        await asyncio.sleep(FLOOR_S / 2)
        watchdog.spare_loop()
        time.sleep(3 * FLOOR_S)  # noqa: ASYNC251
        assert told == []
        activity.begin(Stage.DEVICE, "a")
        time.sleep(3 * FLOOR_S)  # noqa: ASYNC251
    assert [one.stage for one in told] == [Stage.DEVICE]


async def test_closing_ends_it() -> None:
    """What stops in the worker's own end is not a hang."""
    told: list[Hang] = []
    activity = Activity(FLOOR_S)
    watchdog = Watchdog(activity)
    watchdog.start(told.append)
    watchdog.close()
    activity.begin(Stage.DEVICE, "a")
    await asyncio.sleep(2 * FLOOR_S)
    assert told == []
    assert "embedmill-watchdog" not in {thread.name for thread in threading.enumerate()}
