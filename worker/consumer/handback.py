"""Who holds leases: the names of worker processes, and what a dead one leaves behind."""

import os
import socket
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from redis import Redis

from producer.contract import Keys
from producer.queue.scripts import HAND_BACK


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedBack:
    """How many jobs a dead worker held, and how many of them had texts under test."""

    num_jobs: int
    num_under_test: int


def new_owner() -> str:
    """A name that no other worker process has, now or later."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


def hand_back(redis: Redis, keys: Keys, owner: str) -> HandedBack:
    """Put every job of a dead worker back on the queue, in one step, since one may have been the cause.

    redis-py's errors pass through.
    """
    answer: Any = redis.eval(*HAND_BACK.eval_args(keys.root, owner))
    num_jobs, num_under_test = answer
    return HandedBack(num_jobs=num_jobs, num_under_test=num_under_test)
