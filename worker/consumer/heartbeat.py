"""Renews leases from a separate thread, for as long as the worker does not hang."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.consumer.leases import Claim, Leases, Renewal
from worker.telemetry.report import State

log = structlog.stdlib.get_logger(__name__)

_LEAVE_S = 2.0
_CLOSE_S = 5.0


def _ignore(_: Renewal) -> None:
    """The default of `on_renewal`."""


async def _nothing(_: Redis) -> None:
    """The default of `after_beat`."""


class Heartbeat:
    """Renews the held claims every third of a lease; without any it is heard from a little less often.

    Runs in a thread with its own event loop, so that a worker whose loop is briefly blocked keeps its leases.
    One that is `hung` still shows itself, but renews nothing. `redis` is used only in the thread, and closed
    with it. In the worker's loop `on_renewal` is called with what each renewal has shown, and `on_lost` with
    each job whose lease is gone; in the thread `on_death` if it ends by anything but `close`, and
    `after_beat`, with its client, after each renewal. After `max_silence_s` without one it counts as
    disconnected.
    """

    def __init__(
        self,
        leases: Leases,
        redis: Redis,
        *,
        lease_s: float,
        on_lost: Callable[[str], None],
        on_renewal: Callable[[Renewal], None] = _ignore,
        on_death: Callable[[BaseException], None],
        max_silence_s: float = 30.0,
        hung: Callable[[], bool] = lambda: False,
        after_beat: Callable[[Redis], Awaitable[None]] = _nothing,
    ) -> None:
        self._leases = leases
        self._redis = redis
        self._interval_s, self._idle_interval_s = lease_s / 3, lease_s * 0.7
        self._on_lost = on_lost
        self._on_renewal = on_renewal
        self._on_death = on_death
        self._max_silence_s = max_silence_s
        self._hung = hung
        self._after_beat = after_beat
        self._held: dict[str, Claim] = {}
        self._misses: dict[Claim, int] = {}
        self._lock = threading.Lock()
        self._stop = asyncio.Event()  # of the thread's loop
        self._loop = asyncio.get_running_loop()
        self._thread_loop = asyncio.new_event_loop()
        self._renewed_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="embedmill-heartbeat", daemon=True)
        self._thread.start()

    @property
    def state(self) -> State:
        """The worker's state."""
        if self._hung():
            return "hung"
        unrenewed_s = time.monotonic() - self._renewed_s
        return "disconnected" if unrenewed_s > self._max_silence_s else "serving"

    @property
    def held(self) -> list[Claim]:
        """The claims that it renews."""
        with self._lock:
            return list(self._held.values())

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
        """Remove the worker from the live workers, then end the thread and its connection."""
        with suppress(RuntimeError):  # the thread has died and closed its loop
            self._thread_loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._thread_loop) as runner:
                runner.run(self._beat_until_stopped())
        except BaseException as error:  # without the thread every lease would expire unnoticed
            self._on_death(error)

    async def _beat_until_stopped(self) -> None:
        async with self._redis:
            while not self._stop.is_set():
                due_s = time.monotonic() + (self._interval_s if self._held else self._idle_interval_s)
                await self._beat()
                with suppress(TimeoutError):
                    async with asyncio.timeout(due_s - time.monotonic()):
                        await self._stop.wait()
            with suppress(RedisError, OSError):
                async with asyncio.timeout(_LEAVE_S):
                    await self._leases.leave(self._redis)

    async def _beat(self) -> None:
        held = [] if self._hung() else self.held
        try:
            renewal = await self._leases.renew(self._redis, held)
            await self._after_beat(self._redis)
        except (RedisError, OSError) as error:
            log.warning("leases_not_renewed", error=str(error))
            return
        self._renewed_s = time.monotonic()
        self._loop.call_soon_threadsafe(self._on_renewal, renewal)
        # The lease of a job that has just finished is gone too, and its claim is held until the worker's loop
        # has read the reply: a lease counts as lost if it is gone and its claim held at two beats in a row.
        misses = {claim: self._misses.get(claim, 0) + 1 for claim in held if claim.job in renewal.lost}
        for claim, num_misses in misses.items():
            if num_misses == 2:
                self._loop.call_soon_threadsafe(self._on_lost, claim.job)
        self._misses = misses
