"""arq's Worker with leases: claims in one step, a heartbeat, and endings that only the owner can write."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from signal import Signals
from typing import Any

import structlog
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import Redis
from redis.exceptions import RedisError

from producer.backoff import Backoff
from producer.contract import Failure, Keys
from producer.errors import BackendDead
from producer.transport.connect import end_tasks, subscribed
from worker.consumer.failures import given_up
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.leases import Claim, JobResult, Leases
from worker.consumer.retry import retry_until_written

log = structlog.stdlib.get_logger(__name__)

# What a job is: its claim and its payload, None if that is gone. Answered with None if the lease was lost.
JobFunction = Callable[[Claim, bytes | None], Awaitable[JobResult | None]]

MIN_HELD_BYTES = 64 * 1024  # small jobs are taken many at a time, however slow the last ones were
STOP_S = 5.0  # a claim takes milliseconds unless Redis is gone
_RETRY_BACKOFF = Backoff(first_s=0.5, max_s=30.0, jitter=(0.5, 1.5))
IDLE_S = 0.25  # how long a lost bell, or a lease that has run out, can go unnoticed


class LeaseWorker(Worker):
    """Runs claimed jobs until told to stop; of arq it keeps the main loop, the signals and the shutdown.

    It holds as much work as it does in about `horizon_s`, at least two jobs, so that the next job is
    prepared while the device works and other workers get their share of the queue.
    """

    def __init__(
        self,
        run: JobFunction,
        *,
        redis: Redis,
        keys: Keys,
        leases: Leases,
        max_jobs: int,
        max_tries: int,
        grace_s: float,
        on_failure: Callable[[Claim, Failure], None],
        horizon_s: float = 2.0,
    ) -> None:
        super().__init__(
            functions=[_embed],
            redis_pool=ArqRedis(redis.connection_pool),
            queue_name=keys.waiting,
            health_check_key=keys.root + "health",
            max_jobs=max_jobs,
            max_tries=max_tries,
            poll_delay=0,
            job_completion_wait=max(1, round(grace_s)),
            job_serializer=_no_serializer,
            job_deserializer=_no_serializer,
        )
        self._run_job = run
        self._keys = keys
        self._leases = leases
        self._on_failure = on_failure
        self._horizon_s = horizon_s
        self._heartbeat: Heartbeat | None = None
        self._wake = asyncio.Event()
        self._rung = True  # there may be jobs since the last look at the queue
        self._more = True  # there is no reason to sleep before the next look
        self._look_s = 0.0  # when to look in any case
        self._claims: dict[str, Claim] = {}
        self._stopping = False
        self._bytes_per_s = 0.0
        self._last_done_s = time.monotonic()

    def start_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Renew claims through this heartbeat; to be called before the first job."""
        self._heartbeat = heartbeat

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """The first signal lets running jobs finish within the grace; a second one hands them back now."""
        if not self.allow_pick_jobs:
            self._stop()
            return
        log.info("stopping", signal=Signals(signum).name, jobs_running=len(self.tasks))
        self.allow_pick_jobs = False
        self._wake.set()
        self.loop.call_later(self._job_completion_wait, self._stop)

    def _stop(self) -> None:
        """End the main loop between two claims: a claim cut short would strand its jobs."""
        self._stopping = True
        self._wake.set()

    async def run_until(self, died: asyncio.Future[None]) -> None:
        """Serve until a signal; what the grace did not finish is handed back without burning a try.

        If `died` fails first, since a stage of the worker is gone, the same happens and its error is raised.
        """
        async with subscribed(self.pool, self._keys.bell, self._on_message):
            main = asyncio.create_task(self.async_run(), name="embedmill-main")
            try:
                await asyncio.wait({main, died}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._stop()
                await asyncio.wait({main}, timeout=STOP_S)
                await end_tasks(main, *self.tasks.values())
                await self._hand_back_unstarted()
        if died.done():
            died.result()
        if not main.cancelled():
            main.result()

    async def _hand_back_unstarted(self) -> None:
        """A task that was cancelled before its first step has handed nothing back."""
        with suppress(RedisError, OSError):
            for claim in list(self._claims.values()):
                await self._leases.release(claim, burn_try=False)

    def lease_lost(self, job: str) -> None:
        """Stop working on a job that somebody else may run now."""
        log.warning("lease_lost", job=job)
        if job in self.tasks:
            self.tasks[job].cancel()

    async def _poll_iteration(self) -> None:
        """One turn of arq's main loop: sleep until something happens, then claim what there is room for.

        A queue that was found empty is looked at again when its bell has rung: the end of a job is no reason.
        """
        if not self._more:
            wait_s = self._look_s - self.loop.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s if wait_s > 0 else IDLE_S):
                    await self._wake.wait()
        self._wake.clear()
        for job, task in list(self.tasks.items()):
            if task.done():
                del self.tasks[job]
                if not task.cancelled():
                    task.result()  # BackendDead and bugs end the worker
        if self._stopping or not (self.allow_pick_jobs or self.tasks):
            raise asyncio.CancelledError
        claimed = await self._claim() if self.allow_pick_jobs else 0
        self._more = claimed > 0 and self._rung

    async def _claim(self) -> int:
        if not self._rung and self.loop.time() < self._look_s:
            return 0
        room = self.max_jobs - len(self.tasks)
        held_bytes = sum(claim.num_bytes for claim in self._claims.values())
        room_bytes = max(MIN_HELD_BYTES, self._bytes_per_s * self._horizon_s) - held_bytes
        # Several at a time: a claim costs as much for one job as for many.
        if room < max(1, self.max_jobs // 8) or (len(self.tasks) >= 2 and room_bytes <= 0):
            return 0
        self._rung = False  # before the claim: a bell during it counts for the next
        try:
            claims = await self._leases.claim(room, max(0, int(room_bytes)))
        except (RedisError, OSError) as error:
            log.warning("claim_failed", error=str(error))
            self._rung = True
            await asyncio.sleep(IDLE_S)
            return 0
        self._rung |= self._leases.some_left
        self._look_s = self.loop.time() + IDLE_S
        for claim, payload in claims:
            self._claims[claim.job] = claim
            if self._heartbeat is not None:
                self._heartbeat.hold(claim)
            self.tasks[claim.job] = asyncio.create_task(self._work(claim, payload), name=claim.job)
        return len(claims)

    async def _work(self, claim: Claim, payload: bytes | None) -> None:
        try:
            await self._end(claim, payload)
        except (RedisError, OSError) as error:
            # The lease runs out and the job is claimed again, here or elsewhere.
            log.warning("job_not_ended", job=claim.job, error=str(error))
        finally:
            if self._heartbeat is not None:
                self._heartbeat.drop(claim)
            if self._claims.get(claim.job) == claim:
                del self._claims[claim.job]
            self._measure(claim)
            self._wake.set()

    async def _end(self, claim: Claim, payload: bytes | None) -> None:
        """The job edge: whatever happens to the job, its owner writes exactly one ending."""
        if (failure := given_up(claim, max_tries=self.max_tries)) is not None:
            await self._fail(claim, failure, tries=claim.num_deaths or claim.tries - 1)
            return
        try:
            answer = await self._run_job(claim, payload)
            if answer is not None and await retry_until_written(
                lambda: self._leases.finish(claim, answer), claim.job
            ):
                self.jobs_complete += 1
            else:
                log.warning("answer_dropped", job=claim.job, reason="lease_lost")
        except asyncio.CancelledError:
            await asyncio.shield(self._leases.release(claim, burn_try=False))
            raise
        except BackendDead:
            raise  # what the job held is left to the parent, or to the end of the lease, as after any death
        except (RedisError, OSError, MemoryError) as error:
            log.warning("job_retried", job=claim.job, tries=claim.tries, error=str(error))
            pause_s = _RETRY_BACKOFF.pause_s(claim.tries)
            await retry_until_written(
                lambda: self._leases.release(claim, pause_s=pause_s, burn_try=True), claim.job
            )
            self.jobs_retried += 1
        except Exception as error:
            log.exception("job_failed", job=claim.job)
            failure = Failure(code="internal_error", message=f"{type(error).__name__}: {error}")
            await self._fail(claim, failure, tries=claim.tries)

    async def _fail(self, claim: Claim, failure: Failure, *, tries: int) -> None:
        log.error("job_failed", job=claim.job, code=failure.code)
        self.jobs_failed += 1
        self._on_failure(claim, failure)
        await retry_until_written(lambda: self._leases.bury(claim, failure, tries=tries), claim.job)

    def _measure(self, claim: Claim) -> None:
        """Smoothed bytes of text a second, the measure of how much work to hold."""
        now_s = time.monotonic()
        rate = claim.num_bytes / max(now_s - self._last_done_s, 1e-3)
        self._last_done_s = now_s
        self._bytes_per_s += 0.2 * (rate - self._bytes_per_s)

    def _on_message(self, data: bytes) -> None:
        """Wake the main loop when jobs are enqueued or handed back; end a job that was cancelled."""
        if data == b"+":
            self._rung = True
            self._wake.set()
        elif data.startswith(b"-") and (task := self.tasks.get(data[1:].decode())):
            log.info("job_cancelled", job=task.get_name())
            task.cancel()


async def _embed(ctx: object) -> None:
    """The name arq lists at start; jobs are run by `LeaseWorker`, never through arq's own job records."""


def _no_serializer(_: object) -> Any:
    raise AssertionError("arq's job records are not used; nothing may be pickled")
