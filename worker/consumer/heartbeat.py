"""Keeps leases alive from a thread of its own, for as long as the event loop is alive too."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from redis import Redis
from redis.exceptions import RedisError

from worker.consumer.leases import Claim, Leases
from worker.telemetry.report import State

log = structlog.stdlib.get_logger(__name__)


class Heartbeat:
    """Renews the held claims every third of a lease.

    A thread, since a blocked event loop must not lose its leases at once; it stops renewing when the loop
    has not answered for `max_silence_s`, since a hung worker must lose them. `on_lost` is called in the
    loop with each job whose lease is gone, `on_death` in the thread if it ends by anything but `close`,
    `after_beat` in the thread with its connection.
    """

    def __init__(
        self,
        leases: Leases,
        redis: Redis,
        *,
        lease_s: float,
        on_lost: Callable[[str], None],
        on_death: Callable[[BaseException], None],
        max_silence_s: float = 30.0,
        after_beat: Callable[[Redis], None] = lambda _: None,
    ) -> None:
        self._leases = leases
        self._redis = redis
        self._interval_s = lease_s / 3
        self._on_lost = on_lost
        self._on_death = on_death
        self._max_silence_s = max_silence_s
        self._after_beat = after_beat
        self._held: dict[str, Claim] = {}
        self._misses: dict[Claim, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._asked_loop_s: float | None = None
        self._renewed_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="embedmill-heartbeat", daemon=True)
        self._thread.start()

    @property
    def state(self) -> State:
        """How the worker is, as seen by its leases."""
        if self._loop_silence_s() > self._max_silence_s:
            return "hung"
        unrenewed_s = time.monotonic() - self._renewed_s
        return "disconnected" if unrenewed_s > self._max_silence_s else "serving"

    def hold(self, claim: Claim) -> None:
        """Renew this claim from now on."""
        with self._lock:
            self._held[claim.job] = claim

    def drop(self, claim: Claim) -> None:
        """Stop renewing it; a newer claim of the same job stays held."""
        with self._lock:
            if self._held.get(claim.job) == claim:
                del self._held[claim.job]

    def close(self) -> None:
        """End the thread and its connection."""
        self._stop.set()
        self._thread.join(timeout=5)
        with suppress(RedisError, OSError):
            self._leases.leave(self._redis)
        self._redis.close()

    def _run(self) -> None:
        try:
            while True:
                due_s = time.monotonic() + self._interval_s
                self._beat()
                if self._stop.wait(max(0.0, due_s - time.monotonic())):
                    return
        except BaseException as error:  # without it every lease would silently run out
            self._on_death(error)

    def _beat(self) -> None:
        if self._asked_loop_s is None:
            self._asked_loop_s = time.monotonic()
            self._loop.call_soon_threadsafe(self._tick)
        silence_s = self._loop_silence_s()
        if silence_s > self._max_silence_s:
            log.error("event_loop_silent", seconds=round(silence_s), consequence="its leases run out")
            return
        with self._lock:
            held = list(self._held.values())
        try:
            lost = self._leases.renew(self._redis, held)
            self._after_beat(self._redis)
        except (RedisError, OSError) as error:
            log.warning("leases_not_renewed", error=str(error))
            return
        self._renewed_s = time.monotonic()
        # A job that has just been finished is gone too, and held until the loop has read that it was: a lease
        # is lost if it is gone and held at two beats.
        misses = {claim: self._misses.get(claim, 0) + 1 for claim in held if claim.job in lost}
        for claim, num_misses in misses.items():
            if num_misses == 2:
                self._loop.call_soon_threadsafe(self._on_lost, claim.job)
        self._misses = misses

    def _tick(self) -> None:
        self._asked_loop_s = None

    def _loop_silence_s(self) -> float:
        """How long the loop has owed an answer; 0 if it owes none, as while a renewal waits for Redis."""
        asked_s = self._asked_loop_s
        return 0.0 if asked_s is None else time.monotonic() - asked_s
