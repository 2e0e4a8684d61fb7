"""The table of all metrics, and the Prometheus families made from it; see docs/reference/metrics.md."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from worker.telemetry.report import Report

PREFIX = "embedmill_"
STATES = ("serving", "starting", "disconnected", "hung", "silent", "down")


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One field and the metric it becomes; with a `label` the field maps that label's values to numbers."""

    field: str
    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    label: str = ""


# Fields of worker.telemetry.counters.Counters, reported by each worker process.
WORKER_METRICS = (
    MetricSpec("texts", "counter", "texts", "Texts answered with a vector."),
    MetricSpec("texts_failed", "counter", "texts_failed", "Texts without a vector, by error code.", "code"),
    MetricSpec("texts_truncated", "counter", "texts_truncated", "Texts cut to the model's limit."),
    MetricSpec("tokens", "counter", "tokens", "Tokens of the texts answered with a vector."),
    MetricSpec(
        "texts_repeated",
        "counter",
        "texts_coalesced",
        "Texts that shared the vector of an equal text in flight.",
    ),
    MetricSpec("cache_hits", "counter", "cache_hits", "Texts whose vector came from the vector cache."),
    MetricSpec(
        "cache_misses", "counter", "cache_misses", "Texts looked up in the vector cache but not found."
    ),
    MetricSpec("jobs", "counter", "jobs", "Jobs ended, by `ok` or the code of their failure.", "code"),
    MetricSpec("job_tries", "counter", "job_tries", "Tries that the ended jobs took."),
    MetricSpec("job_s", "histogram", "job_seconds", "Time from enqueueing to answering a job."),
    MetricSpec("job_stage_s", "histogram", "job_stage_seconds", "Time a job spent in each stage.", "stage"),
    MetricSpec("leases_lost", "counter", "leases_lost", "Jobs that a worker lost while it ran them."),
    MetricSpec("batches", "counter", "batches", "Batches computed."),
    MetricSpec("batch_texts", "counter", "batch_texts", "Texts in computed batches."),
    MetricSpec("batch_tokens", "counter", "batch_tokens", "Tokens in computed batches, without padding."),
    MetricSpec(
        "batch_cost_tokens", "counter", "batch_cost_tokens", "Tokens in computed batches, with padding."
    ),
    MetricSpec(
        "batch_budget_tokens", "counter", "batch_budget_tokens", "Sum of the computed batches' token budgets."
    ),
    MetricSpec("batch_s", "histogram", "batch_seconds", "Time from launching a batch to its vectors."),
    MetricSpec("batch_fill", "histogram", "batch_fill_ratio", "Share of its token budget that a batch used."),
    MetricSpec(
        "budget_tokens", "gauge", "budget_tokens", "Token budget of a batch; halved when memory runs out."
    ),
    MetricSpec("busy_s", "counter", "device_busy_seconds", "Time with at least one batch on the device."),
)

# Fields of producer.queue.status.QueueStatus, read from Redis at the scrape; the same from every machine.
QUEUE_METRICS = (
    MetricSpec("paused", "gauge", "queue_paused", "1 while the queue is paused, else 0."),
    MetricSpec("pending", "gauge", "queue_pending_jobs", "Jobs that no worker has claimed."),
    MetricSpec("running", "gauge", "queue_running_jobs", "Jobs running, or pausing before their next try."),
    MetricSpec("num_bytes", "gauge", "queue_bytes", "Bytes of text in pending and running jobs."),
    MetricSpec("next_age_s", "gauge", "queue_age_seconds", "Age of the job that is claimed next."),
    MetricSpec("dead", "gauge", "queue_dead_letters", "Dead letters: failed jobs that are kept."),
    MetricSpec("num_workers", "gauge", "queue_workers", "Live worker processes on all machines."),
    MetricSpec("ended", "counter", "queue_jobs", "Jobs ended on all machines, by outcome.", "outcome"),
    MetricSpec("lost_leases", "counter", "queue_leases_lost", "Leases that expired or whose worker died."),
)

# What the supervisor itself knows about each worker process.
SUPERVISOR_METRICS = (
    MetricSpec(
        "state", "gauge", "worker_state", "1 for the worker process's current state, else 0.", "state"
    ),
    MetricSpec("num_starts", "counter", "worker_starts", "Processes started for the device."),
    MetricSpec("num_hangs", "counter", "worker_hangs", "Processes that ended because they hung."),
    MetricSpec(
        "profiles_failed",
        "gauge",
        "profile_failed",
        "1 for each profile that failed to load or verify.",
        "profile",
    ),
)
PROFILE_INFO = MetricSpec(
    "profile", "gauge", "profile_info", "Always 1; the labels name the device and profile."
)
QUEUE_UP = MetricSpec("queue_up", "gauge", "queue_up", "1 if Redis answered this scrape, else 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSample:
    """One device's worker process at the scrape; `report` is None if it did not answer."""

    device: str
    state: str
    num_starts: int
    num_hangs: int
    report: Report | None


def worker_families(model: str, workers: Iterable[WorkerSample]) -> Iterator[Metric]:
    """The metrics of a machine's worker processes, each with the labels `model` and `device`."""
    samples = list(workers)
    reports = [(one.device, one.report) for one in samples if one.report is not None]
    for spec in WORKER_METRICS:
        yield _family(spec, {(model, device): report.numbers[spec.field] for device, report in reports})
    facts = {(model, one.device): _facts(one) for one in samples}
    for spec in SUPERVISOR_METRICS:
        yield _family(spec, {labels: each[spec.field] for labels, each in facts.items()})
    labels = ("model", "device", "device_name", "profile", "profile_id", "backend", "precision")
    info = GaugeMetricFamily(PREFIX + PROFILE_INFO.name, PROFILE_INFO.help, labels=labels)
    for device, report in reports:
        info.add_metric((model, device, *(report.profile[label] for label in labels[2:])), 1)
    yield info


def queue_families(model: str, status: Mapping[str, Any] | None) -> Iterator[Metric]:
    """The metrics of the queue from a QueueStatus as a mapping; None if Redis did not answer."""
    up = 0 if status is None else 1
    yield _family(QUEUE_UP, {(model,): up}, labels=("model",))
    if status is None:
        return
    fields = {
        **status,
        "paused": int(status["paused"]),
        "next_age_s": status["next_age_s"] or 0.0,
        "num_workers": len(status["workers"]),
        "ended": {outcome: status[outcome] for outcome in ("done", "failed", "cancelled")},
    }
    for spec in QUEUE_METRICS:
        yield _family(spec, {(model,): fields[spec.field]}, labels=("model",))


def _facts(worker: WorkerSample) -> dict[str, Any]:
    failed = worker.report.profiles_failed if worker.report is not None else ()
    return {
        "state": {state: int(state == worker.state) for state in STATES},
        "num_starts": worker.num_starts,
        "num_hangs": worker.num_hangs,
        "profiles_failed": dict.fromkeys(failed, 1),
    }


def _family(
    spec: MetricSpec, values: Mapping[tuple[str, ...], Any], *, labels: tuple[str, ...] = ("model", "device")
) -> Metric:
    samples = dict(values)
    if spec.label:
        labels = (*labels, spec.label)
        samples = {(*known, key): one for known, each in values.items() for key, one in each.items()}
    if spec.kind == "histogram":
        histogram = HistogramMetricFamily(PREFIX + spec.name, spec.help, labels=labels)
        for label_values, one in samples.items():
            histogram.add_metric(label_values, buckets=_buckets(one), sum_value=one["total"])
        return histogram
    kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
    family = kind(PREFIX + spec.name, spec.help, labels=labels)
    for label_values, value in samples.items():
        family.add_metric(label_values, value)
    return family


def _buckets(histogram: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Cumulative buckets, as Prometheus expects them: each counts all values up to its bound."""
    bounds = [*(str(float(bound)) for bound in histogram["bounds"]), "+Inf"]
    return list(zip(bounds, accumulate(histogram["counts"]), strict=True))
