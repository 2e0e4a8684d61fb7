"""The consumer's loop: wakes up, reaps finished jobs, and claims as many new ones as fit."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from signal import Signals

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from producer.backoff import Backoff
from producer.contract import Failure, Keys
from producer.errors import BackendDead
from producer.transport.connect import end_tasks, subscribed, uninterrupted
from producer.transport.retry import is_permanent
from worker.consumer.arq_host import ArqHost
from worker.consumer.capacity import URGENT_EVERY_S, Capacity
from worker.consumer.failures import answer_refused, failure_if_exhausted, internal_error
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.leases import Claim, JobResult, Leases, Renewal
from worker.consumer.retry import OutcomeRefused, retry_until_written
from worker.telemetry.activity import Activity, Stage
from worker.telemetry.events import JobEvent
from worker.telemetry.observers import JobObserver

log = structlog.stdlib.get_logger(__name__)

# Runs a claimed job, given its payload or None if that is gone; returns None if the lease was lost.
JobFunction = Callable[[Claim, bytes | None], Awaitable[JobResult | None]]

STOP_S = 5.0  # a claim takes milliseconds unless Redis is unreachable
_RETRY_BACKOFF = Backoff(first_s=0.5, max_s=30.0, jitter=(0.5, 1.5))
_RETRY_CLAIM_S = 0.25
_LATE_S = 0.01  # after the end of a lease or a pause, so that it is over
_WRITE_S = 60.0  # longer than a try to write an outcome takes, however Redis behaves


class ConsumerState(Enum):
    """RUNNING claims jobs and runs them, DRAINING only finishes running jobs, STOPPING ends the loop."""

    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"


class Consumer:
    """Claims jobs and runs them until it is stopped.

    It holds about two seconds of work, and at least two jobs, so that the next job is prepared while the
    device computes, and other workers get their share of the queue. Small jobs and those of high priority do
    not wait for that: some are taken beside it, which the batches then have room for. After the first signal
    running jobs may finish within `grace_s`; a second one hands them back at once. Create it in a running
    event loop.
    """

    def __init__(
        self,
        run_job: JobFunction,
        *,
        redis: Redis,
        keys: Keys,
        leases: Leases,
        observer: JobObserver,
        activity: Activity,
        max_jobs: int,
        max_tries: int,
        grace_s: float,
    ) -> None:
        self._run_job = run_job
        self._redis = redis
        self._keys = keys
        self._leases = leases
        self._observer = observer
        self._activity = activity
        self._capacity = Capacity(max_jobs)
        self._max_tries = max_tries
        self._grace_s = grace_s
        self._state = ConsumerState.RUNNING
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._may_claim = True
        self._jobs_expected = True  # the queue may hold jobs that the last claim did not see
        self._due: asyncio.TimerHandle | None = None  # when the next lease or pause of any job ends
        self._heartbeat: Heartbeat  # given to `run`
        self._claims: dict[str, Claim] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.jobs_done = 0  #: jobs that ended with their result, since the start
        self._host = ArqHost(self._run_loop, on_signal=self._on_signal)

    async def run(self, heartbeat: Heartbeat) -> None:
        """Consume until a signal, or until cancelled; unfinished jobs are handed back without costing a try.

        `heartbeat` renews the claims. Raises BackendDead if a job raised it, and any unexpected error.
        """
        self._heartbeat = heartbeat
        async with subscribed(
            self._redis, self._leases.wakeup, self._on_message, on_connection=self._on_connection
        ):
            main = asyncio.create_task(self._host.run(), name="embedmill-main")
            try:
                await asyncio.wait({main})
            finally:
                await uninterrupted(self._hand_back(main))
        if not main.cancelled():
            main.result()

    def lease_lost(self, job: str) -> None:
        """Stop working on a job that another worker may run now."""
        log.warning("lease_lost", job=job)
        self._observer.lease_lost()
        if job in self._tasks:
            self._tasks[job].cancel()

    def stop_claiming(self) -> None:
        """Claim nothing more; running jobs go on. Any thread may call it."""
        self._may_claim = False

    def renewed(self, renewal: Renewal) -> None:
        """Claim now if jobs are pending, whose message may be lost, or when the next lease or pause ends."""
        if self._due is not None:
            self._due.cancel()
        self._due = None
        if renewal.num_pending:
            self._expect_jobs()
        elif renewal.first_end_s is not None:
            self._due = self._loop.call_later(renewal.first_end_s + _LATE_S, self._expect_jobs)

    async def _run_loop(self) -> None:
        """Wake, reap, claim; after a claim that left jobs pending, the next iteration does not wait."""
        more_expected = True
        while True:
            if not more_expected:
                await self._wait()
            self._wake.clear()
            self._reap()
            if self._state is ConsumerState.STOPPING:
                return
            if self._state is ConsumerState.DRAINING and not self._tasks:
                return
            more_expected = await self._claim() if self._state is ConsumerState.RUNNING else False

    async def _wait(self) -> None:
        """Wait until a job ends, jobs come, the state changes, or a full worker may take urgent jobs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(URGENT_EVERY_S if self._jobs_expected else None):
                await self._wake.wait()

    def _reap(self) -> None:
        """Remove finished tasks; an error that one raised, BackendDead or a bug, ends the consumer."""
        for job, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[job]
                if not task.cancelled():
                    task.result()

    async def _claim(self) -> bool:
        """Claim and start as many jobs as fit; True if more are expected.

        An empty queue is not polled, neither when a job ends here nor in between: a claim that leaves none
        makes us one of the idle workers, of which one is woken for the next job.
        """
        if not self._may_claim or not self._jobs_expected:
            return False
        if (room := self._capacity.room(self._claims.values())) is None:
            return False
        self._jobs_expected = False  # before the claim: a wake-up message during it counts for the next
        try:
            claims = await self._leases.claim(room.max_jobs, room.max_bytes, small_bytes=room.small_bytes)
        except (RedisError, OSError) as error:
            log.warning("claim_failed", error=str(error))
            self._jobs_expected = True
            await asyncio.sleep(_RETRY_CLAIM_S)
            return True
        self._jobs_expected |= self._leases.more_pending
        for claim, payload in claims:
            self._claims[claim.job] = claim
            self._capacity.claimed(claim, room)
            self._heartbeat.hold(claim)
            self._tasks[claim.job] = asyncio.create_task(self._work(claim, payload), name=claim.job)
        return self._jobs_expected

    async def _work(self, claim: Claim, payload: bytes | None) -> None:
        try:
            await self._run_and_end(claim, payload)
        except (RedisError, OSError, OutcomeRefused) as error:
            # The lease expires and the job is claimed again, here or elsewhere.
            log.warning("job_not_ended", job=claim.job, error=str(error))
        finally:
            self._heartbeat.drop(claim)
            if self._claims.get(claim.job) == claim:
                del self._claims[claim.job]
            self._capacity.ended(claim)
            self._wake.set()

    async def _run_and_end(self, claim: Claim, payload: bytes | None) -> None:
        """The error boundary of a job: whatever happens, its owner writes exactly one outcome."""
        if (failure := failure_if_exhausted(claim, max_tries=self._max_tries)) is not None:
            await self._fail(claim, failure, tries=claim.num_deaths or claim.tries - 1)
            return
        try:
            result = await self._run_job(claim, payload)
            if result is not None and await self._write(claim, lambda: self._leases.finish(claim, result)):
                self.jobs_done += 1
            else:
                log.warning("result_dropped", job=claim.job, reason="lease_lost")
        except asyncio.CancelledError:
            await asyncio.shield(self._leases.release(claim, burn_try=False))
            raise
        except BackendDead:
            raise  # as after any crash, the parent hands the jobs back, or their leases expire
        except OutcomeRefused as error:
            await self._fail(claim, answer_refused(error), tries=claim.tries)
        except (RedisError, OSError) as error:
            if is_permanent(error):
                await self._fail(claim, internal_error(error), tries=claim.tries)
            else:  # trouble with Redis while texts are under test says nothing about the job
                await self._retry(claim, error, burn_try=False)
        except MemoryError as error:
            await self._retry(claim, error, burn_try=True)
        except Exception as error:
            log.exception("job_failed", job=claim.job)
            await self._fail(claim, internal_error(error), tries=claim.tries)

    async def _retry(self, claim: Claim, error: Exception, *, burn_try: bool) -> None:
        log.warning("job_retried", job=claim.job, tries=claim.tries, error=str(error))
        pause_s = _RETRY_BACKOFF.pause_s(claim.tries)
        await self._write(claim, lambda: self._leases.release(claim, pause_s=pause_s, burn_try=burn_try))
        self._loop.call_later(pause_s + _LATE_S, self._expect_jobs)

    async def _write(self, claim: Claim, write: Callable[[], Awaitable[bool]]) -> bool:
        async def noted() -> bool:
            with self._activity.during(Stage.PUBLISH, claim.job, extra_s=_WRITE_S):
                return await write()

        return await retry_until_written(
            noted, claim.job, ping=self._leases.ping, ask_for_memory=self._leases.ask_for_memory
        )

    async def _fail(self, claim: Claim, failure: Failure, *, tries: int) -> None:
        log.error("job_failed", job=claim.job, code=failure.code)
        self._observer.job_ended(
            JobEvent.failed(
                claim.job,
                code=failure.code,
                num_texts=claim.num_texts,
                tries=claim.tries,
                waited_s=claim.waited_s,
            )
        )
        await self._write(claim, lambda: self._leases.bury(claim, failure, tries=tries))

    def _on_message(self, data: bytes) -> None:
        """Handle a wake-up message: jobs were enqueued or handed back, or one was cancelled."""
        if data == b"+":
            self._expect_jobs()
        elif data.startswith(b"-") and (task := self._tasks.get(data[1:].decode(errors="replace"))):
            log.info("job_cancelled", job=task.get_name())
            task.cancel()

    def _on_connection(self, is_connected: bool) -> None:
        if is_connected:  # messages may have been lost
            self._expect_jobs()

    def _expect_jobs(self) -> None:
        self._jobs_expected = True
        self._wake.set()

    def _on_signal(self, signum: Signals) -> None:
        if self._state is not ConsumerState.RUNNING:
            self._stop()
            return
        log.info("stopping", signal=signum.name, jobs_running=len(self._tasks))
        self._state = ConsumerState.DRAINING
        self._wake.set()
        self._loop.call_later(self._grace_s, self._stop)

    def _stop(self) -> None:
        """End the loop between two claims: a claim cut short would strand its jobs."""
        self._state = ConsumerState.STOPPING
        self._wake.set()

    async def _hand_back(self, main: asyncio.Task[None]) -> None:
        """Stop the loop and all jobs, and hand back those that are still claimed."""
        self._stop()
        await asyncio.wait({main}, timeout=STOP_S)
        await end_tasks(main, *self._tasks.values())
        with suppress(RedisError, OSError):
            for claim in list(
                self._claims.values()
            ):  # a task cancelled before its first step releases nothing
                await self._leases.release(claim, burn_try=False)
