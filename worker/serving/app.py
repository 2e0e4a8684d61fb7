"""Wires the worker's parts together and serves until a signal; contains no logic."""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing

import structlog

from producer.contract import Keys, queue_name
from producer.transport.connect import connect, redis_errors
from producer.transport.retry import OutageBudget
from producer.transport.url import redacted
from worker.consumer.consumer import Consumer
from worker.consumer.handback import new_owner
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.leases import Leases
from worker.consumer.reconcile import Reconciler
from worker.serving.handling import Observers, job_handler
from worker.serving.hang import HangExit
from worker.serving.stage_failure import StageFailure
from worker.serving.watchdog import Watchdog
from worker.settings import Settings
from worker.startup.boot import Booted
from worker.telemetry.activity import Activity
from worker.telemetry.counters import Counters
from worker.telemetry.report import Report
from worker.telemetry.worker_info import WorkerInfo

log = structlog.stdlib.get_logger(__name__)


async def serve(
    settings: Settings,
    booted: Booted,
    *,
    owner: str | None = None,
    on_ready: Callable[[Callable[[], Report]], None] = lambda _: None,
    end_process: Callable[[int], None] = os._exit,
) -> None:
    """Run jobs until a signal; those still running after the grace period go back to the queue.

    `owner` is the name under which it holds leases, a new one if none is given. `on_ready` is called with a
    thread-safe function that reports the worker's state; `end_process` with a status, from another thread,
    when the worker hangs. Raises QueueUnavailable if Redis is unreachable at the start, BackendDead if the
    device or another stage dies.
    """
    keys = Keys(queue_name(settings.name), settings.prefix)
    name = owner or new_owner()
    counters = Counters()
    failure, activity = StageFailure(), Activity(settings.hang_s)
    info = worker_info(name, settings, booted, counters)
    async with connect(settings.redis_url) as redis:
        with redis_errors(settings.redis_url):
            jobs_pending: int = await redis.zcard(keys.pending)
        log.info("queue", name=keys.queue, redis=redacted(settings.redis_url), jobs_pending=jobs_pending)
        with ExitStack() as on_exit:
            watchdog = on_exit.enter_context(closing(Watchdog(activity)))  # closed last
            leases = Leases(
                redis,
                keys,
                worker=name,
                lease_s=settings.lease_s,
                describe=lambda: info.encoded(hung=watchdog.hung),
            )
            observers = Observers.of(counters, failure)
            handler = on_exit.enter_context(
                job_handler(settings, booted, keys, mark=leases.mark, activity=activity, observers=observers)
            )
            consumer = Consumer(
                handler,
                redis=redis,
                keys=keys,
                leases=leases,
                observer=observers.jobs,
                activity=activity,
                max_jobs=settings.max_jobs,
                max_tries=settings.max_tries,
                grace_s=settings.grace_s,
            )
            reconciler = Reconciler(keys, name)
            heartbeat = _heartbeat(
                settings, leases, consumer, failure, watchdog=watchdog, after_beat=reconciler
            )
            on_exit.callback(heartbeat.close)
            watchdog.start(HangExit(settings, keys, name, consumer, heartbeat=heartbeat, end=end_process))
            on_exit.callback(watchdog.spare_loop)
            log.info("worker_ready", name=name, model=settings.name, profile=booted.profile.name)
            on_ready(lambda: info.report(heartbeat.state))
            async with failure.ends_block():
                await consumer.run(heartbeat)
    log.info("worker_stopped", name=name, jobs_done=consumer.jobs_done)


def _heartbeat(
    settings: Settings,
    leases: Leases,
    consumer: Consumer,
    failure: StageFailure,
    *,
    watchdog: Watchdog,
    after_beat: Reconciler,
) -> Heartbeat:
    """The heartbeat, on a connection that gives up early on a silent server: the next beat retries."""
    outage_budget = OutageBudget(settings.lease_s / 3)
    timeout_s = max(1.0, settings.lease_s / 2)
    return Heartbeat(
        leases,
        connect(settings.redis_url, timeout_s=timeout_s, outage_budget=outage_budget),
        lease_s=settings.lease_s,
        on_lost=consumer.lease_lost,
        on_renewal=consumer.renewed,
        on_death=failure.report,
        hung=lambda: watchdog.hung,
        after_beat=after_beat,
    )


def worker_info(name: str, settings: Settings, booted: Booted, counters: Counters) -> WorkerInfo:
    """The information that the worker publishes about itself."""
    return WorkerInfo(
        name=name,
        model=settings.name,
        revision=booted.model.revision,
        profile=booted.profile,
        choice=booted.survey.choice,
        counters=counters,
    )
