"""Reconciles a queue's byte counter with its jobs: a lost job never subtracts its bytes."""

import time

import structlog
from redis.asyncio import Redis

from producer.contract import Keys
from producer.queue.scripts import RECONCILE

log = structlog.stdlib.get_logger(__name__)

INTERVAL_S = 60.0
MAX_JOBS = 1000  # counting more would hold up Redis for more than a millisecond or two


class Reconciler:
    """Sets the counter to the bytes of all pending and running jobs; only the first live worker by name acts.

    Call it often: it acts once per `interval_s`, the first time at once. redis-py's errors pass through.
    """

    def __init__(self, keys: Keys, worker: str, *, interval_s: float = INTERVAL_S) -> None:
        self._keys = keys
        self._worker = worker
        self._interval_s = interval_s
        self._due_s = 0.0

    async def __call__(self, redis: Redis) -> None:
        """Reconcile if it is due."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self._interval_s
        excess = await redis.execute_command(*RECONCILE.command(self._keys.root, self._worker, str(MAX_JOBS)))
        if excess:
            log.warning("reconciled", queue=self._keys.queue, bytes_too_many=excess)
