"""Where the worker's parts meet. Holds no logic."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import structlog
from redis.asyncio import Redis

from producer.contract import Keys, Provenance, queue_name
from producer.errors import BackendDead
from producer.transport.connect import connect, redis_errors
from producer.transport.retry import OutageBudget
from producer.transport.url import redacted
from worker.batching.batcher import Batcher
from worker.batching.packing import Budget
from worker.batching.runner import Runner
from worker.consumer.consumer import LeaseWorker
from worker.consumer.failures import failed_event
from worker.consumer.handback import new_owner
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.leases import Leases
from worker.consumer.reconcile import Reconciler
from worker.jobs.embedder import Embedder
from worker.jobs.handler import EmbedJobs, Mark
from worker.jobs.prompts import read_prompts
from worker.jobs.request_part import Serving
from worker.serving.vector_cache import open_cache
from worker.settings import Settings
from worker.startup.boot import Booted
from worker.telemetry.counters import Counters
from worker.telemetry.events import BatchEvent, JobEvent
from worker.telemetry.log_lines import log_batch, log_job, to_all
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
    """Take jobs until a signal ends it; what still runs then goes back to the queue.

    `owner` is the name under which it holds leases, a new one if none is given. `on_ready` is given
    what tells, from any thread, how the worker is.
    Raises QueueUnavailable if Redis is absent at the start, BackendDead if the device or another stage dies.
    """
    keys = Keys(queue_name(settings.name), settings.prefix)
    name = owner or new_owner()
    loop = asyncio.get_running_loop()
    died: asyncio.Future[None] = loop.create_future()

    def on_death(error: BaseException) -> None:
        loop.call_soon_threadsafe(_fail, died, error)

    async with await _redis(settings, keys) as redis:
        tally = Counters()
        on_job = to_all(log_job, tally.count_job)
        on_batch = to_all(log_batch, tally.count_batch)
        record = registration(name, settings, booted, tally)
        leases = Leases(redis, keys, worker=name, lease_s=settings.lease_s, describe=record.encoded)
        with _pipeline(
            settings, booted, keys, mark=leases.mark, on_job=on_job, on_batch=on_batch, on_death=on_death
        ) as jobs:
            worker = LeaseWorker(
                jobs,
                redis=redis,
                keys=keys,
                leases=leases,
                max_jobs=settings.max_jobs,
                max_tries=settings.max_tries,
                grace_s=settings.grace_s,
                on_failure=lambda claim, failure: on_job(failed_event(claim, failure)),
            )
            on_lost = to_all(worker.lease_lost, tally.count_lost_lease)
            heartbeat = _heartbeat(
                settings, leases, on_lost=on_lost, on_death=on_death, after_beat=Reconciler(keys, name)
            )
            with closing(heartbeat):
                worker.start_heartbeat(heartbeat)
                log.info("worker_ready", name=name, model=settings.name, profile=booted.profile.name)
                on_ready(lambda: record.report(heartbeat.state))
                await worker.run_until(died)
    log.info("worker_stopped", name=name, jobs_done=worker.jobs_complete)


def _heartbeat(
    settings: Settings,
    leases: Leases,
    *,
    on_lost: Callable[[str], None],
    on_death: Callable[[BaseException], None],
    after_beat: Reconciler,
) -> Heartbeat:
    """On a connection of its own, with a short timeout, since the next beat tries again."""
    outage_budget = OutageBudget(settings.lease_s / 3)
    timeout_s = max(1.0, settings.lease_s / 2)
    return Heartbeat(
        leases,
        connect(settings.redis_url, timeout_s=timeout_s, outage_budget=outage_budget),
        lease_s=settings.lease_s,
        on_lost=on_lost,
        on_death=on_death,
        after_beat=after_beat,
    )


async def _redis(settings: Settings, keys: Keys) -> Redis:
    redis = connect(settings.redis_url)
    with redis_errors(settings.redis_url):
        waiting: int = await redis.zcard(keys.waiting)
    log.info("queue", name=keys.queue, redis=redacted(settings.redis_url), jobs_pending=waiting)
    return redis


@contextmanager
def _pipeline(
    settings: Settings,
    booted: Booted,
    keys: Keys,
    *,
    mark: Mark,
    on_job: Callable[[JobEvent], None],
    on_batch: Callable[[BatchEvent], None],
    on_death: Callable[[BaseException], None],
) -> Iterator[EmbedJobs]:
    """From a job's payload to its answer: tokenizer threads, cache, batcher, device thread."""
    backend = booted.backend
    budget = Budget(
        max_tokens=backend.max_batch_tokens, max_texts=backend.max_batch_texts, padded=backend.padded
    )
    with ExitStack() as on_exit:
        cache = open_cache(settings, booted, keys)
        if cache is not None:
            on_exit.callback(cache.close)
        batcher = Batcher(budget, dim=backend.dim)
        embedding = Embedder(booted.tokenizer, batcher, cache=cache)
        device = Runner(backend, batcher, on_batch=on_batch, on_death=on_death)
        executor = on_exit.enter_context(
            ThreadPoolExecutor(max_workers=4, thread_name_prefix="embedmill-cpu")
        )
        try:
            yield EmbedJobs(serving(settings, booted), embedding, executor=executor, mark=mark, on_job=on_job)
        finally:
            batcher.close(BackendDead("the worker is shutting down"))
            device.close()


def registration(name: str, settings: Settings, booted: Booted, tally: Counters) -> WorkerInfo:
    """What the worker tells about itself."""
    return WorkerInfo(
        name=name,
        model=settings.name,
        revision=booted.model.revision,
        profile=booted.profile,
        choice=booted.survey.choice,
        tally=tally,
    )


def serving(settings: Settings, booted: Booted) -> Serving:
    """What the worker answers to, and with."""
    card, profile = booted.survey.manifest.model, booted.profile
    return Serving(
        names=frozenset({settings.name, settings.model, card.name, *card.aliases}),
        provenance=Provenance(
            model=settings.name,
            revision=booted.model.revision,
            profile_id=profile.id,
            profile_name=profile.name,
            precision=profile.precision,
        ),
        prompts=read_prompts(booted.model.prompts, card.prompts),
        dim=booted.backend.dim,
        matryoshka=bool(card.matryoshka or booted.model.matryoshka_dims),
    )


def _fail(died: asyncio.Future[None], error: BaseException) -> None:
    if not died.done():
        died.set_exception(error)
