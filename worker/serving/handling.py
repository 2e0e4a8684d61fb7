"""Puts the parts together that run jobs: tokenizer, batcher, device, vector cache and threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self

from producer.contract import Keys, Provenance
from producer.errors import BackendDead
from worker.backends.cpu_threads import usable_cpus
from worker.batching.batcher import Batcher
from worker.batching.pace import LEAST_TOKENS_PER_CPU, Pace
from worker.batching.packing import Budget
from worker.batching.runner import Runner
from worker.jobs.handler import JobHandler, Mark
from worker.jobs.pipeline import RequestPipeline, ServedModel
from worker.serving.stage_failure import StageFailure
from worker.serving.vector_cache import open_cache
from worker.settings import Settings
from worker.startup.boot import Booted
from worker.telemetry.activity import Activity
from worker.telemetry.counters import Counters
from worker.telemetry.observers import BatchObserver, JobObserver

CPU_BATCH_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Observers:
    """Who is told of jobs, of batches, and of a stage that dies."""

    jobs: JobObserver
    batches: BatchObserver
    failure: StageFailure

    @classmethod
    def of(cls, counters: Counters, failure: StageFailure) -> Self:
        """Those that log and count."""
        return cls(jobs=JobObserver(counters), batches=BatchObserver(counters), failure=failure)


@contextmanager
def job_handler(
    settings: Settings,
    booted: Booted,
    keys: Keys,
    *,
    mark: Mark,
    activity: Activity,
    observers: Observers,
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
        runner = Runner(
            backend,
            batcher,
            pace=pace_of(settings, booted),
            activity=activity,
            on_batch=observers.batches.batch_computed,
            on_death=observers.failure.report,
        )
        executor = on_exit.enter_context(
            ThreadPoolExecutor(max_workers=4, thread_name_prefix="embedmill-cpu")
        )
        try:
            yield JobHandler(
                pipeline,
                batcher,
                executor=executor,
                mark=mark,
                activity=activity,
                on_job=observers.jobs.job_ended,
            )
        finally:
            batcher.close(BackendDead("the worker is shutting down"))
            runner.close()


def pace_of(settings: Settings, booted: Booted) -> Pace:
    """The speed measured at boot, and the time that a batch may take: by default bounded on a CPU only."""
    on_cpu = booted.profile.device == "cpu"
    max_batch_s = settings.max_batch_s
    if max_batch_s is None:
        max_batch_s = CPU_BATCH_S if on_cpu else 0.0
    threads = settings.num_threads or usable_cpus()
    return Pace(
        booted.tokens_per_s,
        max_batch_s=max_batch_s or None,
        least_tokens=LEAST_TOKENS_PER_CPU * threads if on_cpu else 1,
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
