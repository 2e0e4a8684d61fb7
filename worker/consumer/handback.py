"""Names worker processes, and hands the jobs of a dead one back to the queue."""

import os
import socket
from dataclasses import dataclass
from uuid import uuid4

from redis.asyncio import Redis

from producer.contract import Keys
from producer.queue.scripts import HAND_BACK


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedBack:
    """How many jobs a dead worker held, and how many of them had texts under test."""

    num_jobs: int
    num_under_test: int


def new_owner() -> str:
    """A name that is unique among all worker processes, past and future."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


async def hand_back(redis: Redis, keys: Keys, owner: str) -> HandedBack:
    """Put all jobs of a dead worker back on the queue in one step, as suspects: one may have killed it.

    redis-py's errors pass through.
    """
    num_jobs, num_under_test = await redis.execute_command(*HAND_BACK.command(keys.root, owner))
    return HandedBack(num_jobs=num_jobs, num_under_test=num_under_test)
