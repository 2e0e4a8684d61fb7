"""The counter of a queue's bytes put right: a job whose hash was lost never gave back its own."""

import time
from typing import Any

import structlog
from redis import Redis

from producer.contract import Keys
from producer.queue.scripts import RECONCILE

log = structlog.stdlib.get_logger(__name__)

RECOUNT_S = 60.0
MAX_JOBS = 20_000  # to count more would hold up everybody for more than some milliseconds


class Reconciler:
    """Sets the counter to the bytes of all jobs that wait or run; the first live worker by name does it.

    To be called often; it looks once every `interval_s`, the first time at once. redis-py's errors pass
    through.
    """

    def __init__(self, keys: Keys, worker: str, *, interval_s: float = RECOUNT_S) -> None:
        self._keys = keys
        self._worker = worker
        self._interval_s = interval_s
        self._due_s = 0.0

    def __call__(self, redis: Redis) -> None:
        """Through a blocking connection, if it is time."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self._interval_s
        excess: Any = redis.eval(*RECONCILE.eval_args(self._keys.root, self._worker, str(MAX_JOBS)))
        if excess:
            log.warning("recounted", queue=self._keys.queue, bytes_too_many=excess)
