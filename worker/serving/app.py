"""Wires the worker's parts together and serves until a signal; contains no logic."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import structlog

from producer.contract import Keys, Provenance, queue_name
from producer.errors import BackendDead
from producer.transport.connect import connect, redis_errors
from producer.transport.retry import OutageBudget
from producer.transport.url import redacted
from worker.batching.batcher import Batcher
from worker.batching.packing import Budget
from worker.batching.runner import Runner
from worker.consumer.consumer import Consumer
from worker.consumer.handback import new_owner
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.leases import Leases
from worker.consumer.reconcile import Reconciler
from worker.jobs.handler import JobHandler, Mark
from worker.jobs.pipeline import RequestPipeline, ServedModel
from worker.serving.stage_failure import StageFailure
from worker.serving.vector_cache import open_cache
from worker.settings import Settings
from worker.startup.boot import Booted
from worker.telemetry.counters import Counters
from worker.telemetry.observers import BatchObserver, JobObserver
from worker.telemetry.report import Report
from worker.telemetry.worker_info import WorkerInfo

log = structlog.stdlib.get_logger(__name__)


async def serve(
    settings: Settings,
    booted: Booted,
    *,
    owner: str | None = None,
    on_ready: Callable[[Callable[[], Report]], None] = lambda _: None,
) -> None:
    """Run jobs until a signal; those still running after the grace period go back to the queue.

    `owner` is the name under which it holds leases, a new one if none is given. `on_ready` is called with a
    thread-safe function that reports the worker's state. Raises QueueUnavailable if Redis is unreachable at
    the start, BackendDead if the device or another stage dies.
    """
    keys = Keys(queue_name(settings.name), settings.prefix)
    name = owner or new_owner()
    counters = Counters()
    jobs, batches, failure = JobObserver(counters), BatchObserver(counters), StageFailure()
    info = worker_info(name, settings, booted, counters)
    async with connect(settings.redis_url) as redis:
        with redis_errors(settings.redis_url):
            jobs_pending: int = await redis.zcard(keys.pending)
        log.info("queue", name=keys.queue, redis=redacted(settings.redis_url), jobs_pending=jobs_pending)
        leases = Leases(redis, keys, worker=name, lease_s=settings.lease_s, describe=info.encoded)
        with _job_handler(
            settings, booted, keys, mark=leases.mark, jobs=jobs, batches=batches, failure=failure
        ) as handler:
            consumer = Consumer(
                handler,
                redis=redis,
                keys=keys,
                leases=leases,
                observer=jobs,
                max_jobs=settings.max_jobs,
                max_tries=settings.max_tries,
                grace_s=settings.grace_s,
            )
            reconciler = Reconciler(keys, name)
            with closing(_heartbeat(settings, leases, consumer, failure, reconciler)) as heartbeat:
                log.info("worker_ready", name=name, model=settings.name, profile=booted.profile.name)
                on_ready(lambda: info.report(heartbeat.state))
                async with failure.ends_block():
                    await consumer.run(heartbeat)
    log.info("worker_stopped", name=name, jobs_done=consumer.jobs_done)


@contextmanager
def _job_handler(
    settings: Settings,
    booted: Booted,
    keys: Keys,
    *,
    mark: Mark,
    jobs: JobObserver,
    batches: BatchObserver,
    failure: StageFailure,
) -> Iterator[JobHandler]:
    """The job handler with its threads, cache, batcher and runner, all closed at the end."""
    backend = booted.backend
    budget = Budget.of(backend)
    with ExitStack() as on_exit:
        cache = open_cache(settings, booted, keys)
        if cache is not None:
            on_exit.callback(cache.close)
        batcher = Batcher(budget, dim=backend.dim)
        pipeline = RequestPipeline(served_model(settings, booted), booted.tokenizer, cache=cache)
        runner = Runner(backend, batcher, on_batch=batches.batch_computed, on_death=failure.report)
        executor = on_exit.enter_context(
            ThreadPoolExecutor(max_workers=4, thread_name_prefix="embedmill-cpu")
        )
        try:
            yield JobHandler(pipeline, batcher, executor=executor, mark=mark, on_job=jobs.job_ended)
        finally:
            batcher.close(BackendDead("the worker is shutting down"))
            runner.close()


def _heartbeat(
    settings: Settings, leases: Leases, consumer: Consumer, failure: StageFailure, reconciler: Reconciler
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
        after_beat=reconciler,
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


def served_model(settings: Settings, booted: Booted) -> ServedModel:
    """The model as requests may name it and as replies describe it."""
    card, profile = booted.survey.manifest.model, booted.profile
    return ServedModel(
        names=frozenset({settings.name, settings.model, card.name, *card.aliases}),
        provenance=Provenance(
            model=settings.name,
            revision=booted.model.revision,
            profile_id=profile.id,
            profile_name=profile.name,
            precision=profile.precision,
        ),
        prompts=booted.prompts,
        dim=booted.backend.dim,
        matryoshka=bool(card.matryoshka or booted.model.matryoshka_dims),
        element_limit=booted.verified.element_limit,
    )
