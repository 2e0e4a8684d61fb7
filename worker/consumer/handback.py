"""Names of worker processes, and the jobs of a dead one handed back to the queue."""

import os
import socket
from dataclasses import dataclass
from uuid import uuid4

from redis.asyncio import Redis

from producer.contract import Keys
from producer.queue.lease_scripts import HAND_BACK


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedBack:
    """How many jobs a dead worker held, and how many of them ran alone (see `worker.consumer.bisection`)."""

    num_jobs: int
    num_on_trial: int


def new_owner() -> str:
    """A name that is unique among all worker processes, past and future."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


async def hand_back(redis: Redis, keys: Keys, owner: str) -> HandedBack:
    """Put all jobs of a dead worker back on the queue in one step, as suspects: one may have killed it.

    redis-py's errors pass through.
    """
    num_jobs, num_on_trial = await redis.execute_command("EVAL", HAND_BACK, 1, keys.root, owner)
    return HandedBack(num_jobs=num_jobs, num_on_trial=num_on_trial)
