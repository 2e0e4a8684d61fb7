"""A thread that fails ends the worker: once, with its own error, and not before the worker has cleaned up."""

import asyncio
import threading

import pytest

from producer.errors import BackendDead
from worker.serving.stage_failure import StageFailure


def fail(failure: StageFailure, error: BaseException) -> None:
    """As a stage would."""
    thread = threading.Thread(target=failure.report, args=(error,))
    thread.start()
    thread.join()


async def test_a_failure_ends_the_block_with_its_error() -> None:
    """The first one; and what the block does in ending comes first."""
    failure, ended = StageFailure(), []

    async def block() -> None:
        async with failure.ends_block():
            fail(failure, BackendDead("first"))
            fail(failure, BackendDead("second"))
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0)
                ended.append("cleaned up")

    with pytest.raises(BackendDead, match="first"):
        await block()
    assert ended == ["cleaned up"]


async def test_a_failure_before_the_block_counts() -> None:
    """The stages start before the consumer does."""
    failure = StageFailure()
    fail(failure, BackendDead("early"))
    with pytest.raises(BackendDead, match="early"):
        async with failure.ends_block():
            await asyncio.sleep(60)


async def test_a_block_ends_by_itself() -> None:
    """With its own error if there is one; what is reported later is nobody's."""
    failure = StageFailure()
    async with failure.ends_block():
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match="a bug"):
        async with StageFailure().ends_block():
            raise ValueError("a bug")
    fail(failure, BackendDead("late"))
    await asyncio.sleep(0)
