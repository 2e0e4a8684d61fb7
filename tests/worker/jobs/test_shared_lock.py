"""Who holds the lock beside whom, and who waits."""

import asyncio

from worker.jobs.shared_lock import SharedLock


async def test_one_has_it_alone_and_the_others_wait() -> None:
    """Whoever waits for it alone has it before those that came later."""
    lock, seen = SharedLock(), []

    async def share(name: str) -> None:
        async with lock.shared():
            seen.append(f"{name} in")
            await asyncio.sleep(0.02)
            seen.append(f"{name} out")

    async def have_it_alone() -> None:
        async with lock.exclusive():
            seen.append("alone in")
            await asyncio.sleep(0.02)
            seen.append("alone out")

    await asyncio.gather(share("a"), share("b"), have_it_alone(), share("c"))
    assert seen == ["a in", "b in", "a out", "b out", "alone in", "alone out", "c in", "c out"]
